"""Hugging Face configurations of real models, as data: built on fake tensors, nothing downloaded.

Sizes are those of the published models' configuration files; what is unsaid is transformers'
default. Each joint graph of forward and backward has between 500 and 8,000 nodes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from pebble.tracing.inputs import Inputs


@dataclass(frozen=True)
class Configuration:
    """A model and the inputs of one step.

    Attributes
    ----------
    config : mapping
        The content of a ``config.json``, or empty for a name of `pebble.shapes.SHAPES`.
    batch, length : int
        Sequences (or images) and tokens of each.
    dtype : str
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 8
    length: int | None = 512
    dtype: str = "fp32"


def _named(**more: Any) -> Configuration:
    return Configuration(**more)


def _model(kind: str, architecture: str, *, run: Mapping[str, Any] | None = None, **sizes: Any):  # type: ignore[no-untyped-def]
    config = {"model_type": kind, "architectures": [architecture], **sizes}
    return Configuration(config, **(run or {}))


def _gpt2(layers: int) -> Configuration:
    return _model("gpt2", "GPT2LMHeadModel", n_embd=1024, n_layer=layers, n_head=16)


_IMAGES = {"batch": 64, "length": None}

CONFIGURATIONS: Mapping[str, Configuration] = {
    "gpt2": _named(),
    "gpt2-medium": _named(),
    "gpt2-large": _named(),
    "gpt2-xl": _named(),
    "llama-1b": _named(batch=2, length=2048),
    "llama-7b": _named(batch=1, length=2048),
    "qwen2.5-1.5b": _named(batch=2, length=2048),
    "smollm-135m": _named(batch=8, length=1024),
    "bert-base": _named(batch=32),
    "bert-large": _named(batch=32),
    "vit-base": _named(**_IMAGES),
    "vit-large": _named(**_IMAGES),
    "qwen3-0.6b": _model(
        "qwen3", "Qwen3ForCausalLM", run={"batch": 4, "length": 1024}, hidden_size=1024,
        intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, vocab_size=151936, tie_word_embeddings=True,
    ),
    "gemma2-2b": _model(
        "gemma2", "Gemma2ForCausalLM", run={"batch": 2, "length": 1024}, hidden_size=2304,
        intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256, vocab_size=256000,
    ),
    "mistral-7b": _model(
        "mistral", "MistralForCausalLM", run={"batch": 1, "length": 2048}, hidden_size=4096,
        intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=32000,
    ),
    "phi-2": _model(
        "phi", "PhiForCausalLM", run={"batch": 2, "length": 1024}, hidden_size=2560,
        intermediate_size=10240, num_hidden_layers=32, num_attention_heads=32, vocab_size=51200,
    ),
    "opt-1.3b": _model(
        "opt", "OPTForCausalLM", hidden_size=2048, ffn_dim=8192, num_hidden_layers=24,
        num_attention_heads=32, word_embed_proj_dim=2048,
    ),
    "pythia-410m": _model(
        "gpt_neox", "GPTNeoXForCausalLM", hidden_size=1024, intermediate_size=4096,
        num_hidden_layers=24, num_attention_heads=16, vocab_size=50304,
    ),
    "pythia-2.8b": _model(
        "gpt_neox", "GPTNeoXForCausalLM", hidden_size=2560, intermediate_size=10240,
        num_hidden_layers=32, num_attention_heads=32, vocab_size=50304,
    ),
    "opt-6.7b": _model(
        "opt", "OPTForCausalLM", hidden_size=4096, ffn_dim=16384, num_hidden_layers=32,
        num_attention_heads=32, word_embed_proj_dim=4096,
    ),
    "bloom-560m": _model(
        "bloom", "BloomForCausalLM", hidden_size=1024, n_layer=24, n_head=16, vocab_size=250880,
        run={"batch": 4, "length": 1024},
    ),
    "roberta-base": _model(
        "roberta", "RobertaForSequenceClassification", run={"batch": 32, "length": 512},
        vocab_size=50265, max_position_embeddings=514,
    ),
    "distilbert": _model("distilbert", "DistilBertForSequenceClassification", run={"batch": 32}),
    "electra-base": _model(
        "electra", "ElectraForSequenceClassification", run={"batch": 32}, embedding_size=768,
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12,
    ),
    "deberta-v3-base": _model(
        "deberta-v2", "DebertaV2ForTokenClassification", run={"batch": 16, "length": 512},
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12,
        relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=256,
        max_relative_positions=-1, share_att_key=True, norm_rel_ebd="layer_norm",
        type_vocab_size=0, vocab_size=128100,
    ),
    "t5-base": _model(
        "t5", "T5ForConditionalGeneration", d_model=768, d_ff=3072, num_layers=12, num_heads=12,
        decoder_start_token_id=0, run={"batch": 8, "length": 512},
    ),
    "bart-large": _model("bart", "BartForConditionalGeneration", run={"batch": 8}),
    "swin-base": _model(
        "swin", "SwinForImageClassification", run=_IMAGES, embed_dim=128,
        depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32],
    ),
    "resnet-50": _model(
        "resnet", "ResNetForImageClassification", run=_IMAGES, depths=[3, 4, 6, 3],
        image_size=224,
    ),
    "resnet-152": _model(
        "resnet", "ResNetForImageClassification", run=_IMAGES, depths=[3, 8, 36, 3],
        image_size=224,
    ),
    "dinov2-large": _model(
        "dinov2", "Dinov2ForImageClassification", run=_IMAGES | {"batch": 32}, hidden_size=1024,
        num_hidden_layers=24, num_attention_heads=16, image_size=224, patch_size=14,
    ),
    "deit-base": _model("deit", "DeiTForImageClassification", run=_IMAGES),
}  # fmt: skip
"""At least 20 models of all kinds."""

LAYERED: Mapping[str, Configuration] = {
    f"gpt2-{layers}-layers": _gpt2(layers) for layers in (12, 24, 48, 96)
}
"""One model (the width of GPT-2 medium) at four depths."""


def build(name: str) -> tuple[nn.Module, Inputs]:
    """A model in training mode on fake tensors, and the inputs of its step."""
    from pebble.finetune.named_models import build_shape

    found = {**CONFIGURATIONS, **LAYERED}[name]
    shape: Any = {"dtype": found.dtype, "batch_size": found.batch, "seq_len": found.length}
    if not found.config:
        return build_shape(name, **shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(dict(found.config)))
        return build_shape(str(path), **shape)
