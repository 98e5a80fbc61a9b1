"""Front door: named models and adapters, under the path that people import them from."""

from pebble.finetune.lora import LORA_TARGETS, Adapted, add_adapters
from pebble.finetune.named_models import SHAPES, build_shape
from pebble.measure.dtypes import DTYPES, dtype_of, under_autocast

__all__ = [
    "DTYPES",
    "LORA_TARGETS",
    "SHAPES",
    "Adapted",
    "add_adapters",
    "build_shape",
    "dtype_of",
    "under_autocast",
]
