"""Front door: `pebble.finetune.named_models` under the path that people import it from."""

from pebble.finetune.named_models import DTYPES, LORA_TARGETS, SHAPES, add_adapters, build_shape

__all__ = ["DTYPES", "LORA_TARGETS", "SHAPES", "add_adapters", "build_shape"]
