"""Named model shapes, built without memory: plan for a model that this machine could not hold."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pebble.arguments import one_of, renamed
from pebble.errors import InvalidArgument
from pebble.finetune.lora import LORA_TARGETS, add_adapters
from pebble.measure.dtypes import dtype_of
from pebble.schema import shortened
from pebble.textfile import parse_json, read_text, shown
from pebble.tracing.card_twin import CardTwin
from pebble.tracing.inputs import Inputs, make_inputs
from pebble.tracing.torch_private.fake_tensors import FakeTensorMode


def _llama(
    width: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        **more,
    }


def _qwen2(*sizes: int, **more: Any) -> dict[str, Any]:
    own = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    return {**_llama(*sizes), "max_position_embeddings": 32768, **own, **more}


def _gpt2(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
    }


def _encoder(kind: str, architecture: str, width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": kind,
        "architectures": [architecture],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }


# Sizes from the published configurations of Llama 2 (7b, 13b, 70b), Llama 3.x (1b, 3b, 8b),
# Qwen 2.5, SmolLM, GPT-2, BERT and ViT; everything unsaid is transformers' default.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "llama-1b": _llama(2048, 8192, 16, 32, 8, 128256, tie_word_embeddings=True),
    "llama-3b": _llama(3072, 8192, 28, 24, 8, 128256, tie_word_embeddings=True),
    "llama-7b": _llama(4096, 11008, 32, 32, 32, 32000),
    "llama-8b": _llama(4096, 14336, 32, 32, 8, 128256, max_position_embeddings=8192),
    "llama-13b": _llama(5120, 13824, 40, 40, 40, 32000),
    "llama-70b": _llama(8192, 28672, 80, 64, 8, 32000),
    "qwen2.5-1.5b": _qwen2(1536, 8960, 28, 12, 2, 151936, tie_word_embeddings=True),
    "qwen2.5-3b": _qwen2(2048, 11008, 36, 16, 2, 151936, tie_word_embeddings=True),
    "qwen2.5-7b": _qwen2(3584, 18944, 28, 28, 4, 152064),
    "smollm-135m": _llama(
        576, 1536, 30, 9, 3, 49152, tie_word_embeddings=True, max_position_embeddings=2048
    ),
    "gpt2": _gpt2(768, 12, 12),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "gpt2-xl": _gpt2(1600, 48, 25),
    "bert-base": _encoder("bert", "BertForMaskedLM", 768, 12, 12),
    "bert-large": _encoder("bert", "BertForMaskedLM", 1024, 24, 16),
    "vit-base": _encoder("vit", "ViTForImageClassification", 768, 12, 12),
    "vit-large": _encoder("vit", "ViTForImageClassification", 1024, 24, 16),
}


@renamed(dtype="precision")
def build_shape(
    name: str,
    *,
    precision: str = "bf16",
    batch_size: int = 1,
    seq_len: int | None = None,
    lora_rank: int | None = None,
    lora_targets: Sequence[str] = LORA_TARGETS,
    fake: bool = True,
    device: str = "cpu",
) -> tuple[nn.Module, Inputs]:
    """A model of a named shape in training mode, and inputs for it.

    Parameters
    ----------
    name : str
        A key of `SHAPES`, or the path of a Hugging Face ``config.json``.
    precision : "fp32", "bf16" or "fp16"
        Of the weights.
    batch_size : int
    seq_len : int, optional
        Tokens; by default the longest the model takes, at most 1024.
    lora_rank : int, optional
        Freeze the model and add low-rank adapters (Hu et al. 2021) of this rank, in its dtype.
    lora_targets : sequence of str
        Last names of the linear layers that get an adapter.
    fake : bool
        Without memory (fake tensors); else real, randomly initialised.
    device : str
        Where they lie; without memory also "cuda" where no card is.

    Raises
    ------
    InvalidArgument
        If the name, the precision, the device or the rank is unknown, no layer matches the
        targets, or transformers is not installed.
    """
    if fake:
        one_of("device", device, ("cpu", "cuda"))
    with _without_advice():
        model = _built(name, precision, lora_rank, lora_targets, fake=fake)
        if device != "cpu":
            model = CardTwin.of(model).model if fake else model.to(device)
        return model, make_inputs(model, batch_size=batch_size, seq_len=seq_len)


def _built(
    name: str, precision: str, lora_rank: int | None, lora_targets: Sequence[str], *, fake: bool
) -> nn.Module:
    config, architecture = _configuration(name)
    mode = FakeTensorMode() if fake else contextlib.nullcontext()
    with mode, _default_dtype(dtype_of(precision)), _uninitialised(fake):
        model: nn.Module = architecture(config).train()
        model.tie_weights()  # type: ignore[operator]  # belongs to the initialisation
        if lora_rank is not None:
            add_adapters(model, lora_rank, lora_targets)
    return model


def _configuration(name: str) -> tuple[Any, Any]:
    """The configuration and the class of a named shape or of a config.json."""
    path = Path(name)
    if name.lower() in SHAPES:
        data: dict[str, Any] = dict(SHAPES[name.lower()])
    elif path.suffix == ".json":
        data = _written_configuration(path)
    else:
        raise InvalidArgument(
            f"Shape {shown(name)} is not known; choose one of {', '.join(SHAPES)}, or pass the "
            "path of a Hugging Face config.json."
        )
    try:
        import transformers
    except ImportError as error:
        raise InvalidArgument(
            "Named shapes are built from transformers' model classes; install transformers first."
        ) from error
    kind, found = data.pop("model_type", None), data.pop("architectures", None) or [""]
    called = str(found[0] if isinstance(found, list) else found)
    architecture = getattr(transformers, called, None)
    known = isinstance(kind, str) and kind in transformers.CONFIG_MAPPING
    if not (known and isinstance(architecture, type) and issubclass(architecture, nn.Module)):
        raise InvalidArgument(
            f"{shown(name)} names model_type {shortened(kind)} and architecture "
            f"{shortened(called)}, which transformers {transformers.__version__} does not have "
            "both."
        )
    if "use_cache" not in data and kind not in ("bert", "vit"):
        data["use_cache"] = False
    try:
        return transformers.CONFIG_MAPPING[kind](**data), architecture
    except Exception as error:  # each version of transformers has kinds of its own
        raise InvalidArgument(
            f"{shown(name)} is no configuration of a {kind}: {shortened(str(error), 150)}."
        ) from None


def _written_configuration(path: Path) -> dict[str, Any]:
    text = read_text(path, what="The configuration", error=InvalidArgument)
    try:
        data = parse_json(text)
    except ValueError as error:
        raise InvalidArgument(f"The configuration {shown(path)} is no JSON: {error}.") from None
    if not isinstance(data, dict):
        raise InvalidArgument(f"The configuration {shown(path)} is no JSON object.")
    return data


def _uninitialised(fake: bool) -> Any:
    """Skips the initialisation of what has no data anyway (some of it would look at data)."""
    if not fake:
        return contextlib.nullcontext()
    from transformers.initialization import no_init_weights

    return no_init_weights()


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Without transformers' log of what a configuration says of tokens that no shape has."""
    log = logging.getLogger("transformers")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
