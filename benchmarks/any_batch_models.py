"""Models whose batches vary, and how their sizes are drawn: what `any_batch.py` trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

WORDS = 256
LONGEST = 192
Batch = dict[str, torch.Tensor]
Sizes = tuple[int, ...]
Draw = Callable[[torch.Generator, bool], Sizes]
"""The sizes of a batch; the flag says that it is the last one, which is smaller."""


@dataclass(frozen=True)
class Case:
    """A model and its batches.

    Attributes
    ----------
    make : callable
        The model.
    batch : callable
        A batch of given sizes.
    draw : callable
    longest : tuple of int
        Sizes of the largest batch.
    language : bool
        Whether it is a model of tokens.
    """

    make: Callable[[], nn.Module]
    batch: Callable[..., Batch]
    draw: Draw
    longest: Sizes
    language: bool = False


MODELS: dict[str, Case] = {}


def skewed(generator: torch.Generator, shortest: int = 16, longest: int = LONGEST) -> int:
    """A log-normal length."""
    drawn = torch.exp(torch.randn((), generator=generator) * 0.5 + 4.0)
    return min(max(int(drawn), shortest), longest)


def _rows(last: bool) -> int:
    return 3 if last else 4


def tokens(rows: int, length: int) -> Batch:
    """Token ids that are their own labels."""
    ids = torch.randint(1, WORDS, (rows, length))
    return {"input_ids": ids, "labels": ids.clone()}


def rows_and_length(generator: torch.Generator, last: bool) -> Sizes:
    """Four rows, three in the last batch, of a length."""
    return _rows(last), skewed(generator)


def language(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Register a model of tokens under its function's name."""
    MODELS[make.__name__] = Case(make, tokens, rows_and_length, (4, LONGEST), language=True)
    return make


@language
def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=WORDS, n_positions=256, n_embd=64, n_layer=3, n_head=4, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


@language
def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=64, intermediate_size=172, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        attention_dropout=0.1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@language
def llama_lora() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    adapted: nn.Module = get_peft_model(
        llama(), LoraConfig(r=8, target_modules=["q_proj", "v_proj"], lora_dropout=0.1)
    )
    return adapted


@language
def mixtral() -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=WORDS, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=256, attention_dropout=0.1, use_cache=False,
    )  # fmt: skip
    config._experts_implementation = "batched_mm"  # the default loops over data-dependent sizes
    return MixtralForCausalLM(config)


@language
def bert() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=WORDS, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=256,
    )  # fmt: skip
    return BertForMaskedLM(config)


def t5() -> nn.Module:
    """Two lengths: of the source, and of the target."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=WORDS, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
        decoder_start_token_id=0, use_cache=False, dropout_rate=0.1,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def _pairs(rows: int, source: int, target: int) -> Batch:
    return {
        "input_ids": torch.randint(1, WORDS, (rows, source)),
        "labels": torch.randint(1, WORDS, (rows, target)),
    }


def _two_lengths(generator: torch.Generator, last: bool) -> Sizes:
    return _rows(last), skewed(generator), skewed(generator, 8, 96)


MODELS["t5"] = Case(t5, _pairs, _two_lengths, (4, LONGEST, 96), language=True)


def choice() -> nn.Module:
    """Multiple choice: as many answers as a question has, each of a length."""
    from transformers import BertConfig, BertForMultipleChoice

    config = BertConfig(
        vocab_size=WORDS, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=256,
    )  # fmt: skip
    return BertForMultipleChoice(config)


def _choices(rows: int, answers: int, length: int) -> Batch:
    return {
        "input_ids": torch.randint(1, WORDS, (rows, answers, length)),
        "labels": torch.randint(0, answers, (rows,)),
    }


def _answers(generator: torch.Generator, last: bool) -> Sizes:
    return _rows(last), 5 if torch.rand((), generator=generator) < 0.3 else 2, skewed(generator)


MODELS["choice"] = Case(choice, _choices, _answers, (4, 5, LONGEST), language=True)


def vit() -> nn.Module:
    """Two sizes of images."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        image_size=32, patch_size=8, num_labels=10, hidden_dropout_prob=0.1,
    )  # fmt: skip
    return ViTForImageClassification(config)


def _images(rows: int, side: int) -> Batch:
    labels = torch.randint(0, 10, (rows,))
    return {"pixel_values": torch.randn(rows, 3, side, side), "labels": labels}


def _sides(small: int, large: int) -> Draw:
    def draw(generator: torch.Generator, last: bool) -> Sizes:
        return _rows(last), small if torch.rand((), generator=generator) < 0.7 else large

    return draw


class Interpolating(nn.Module):
    """A vision transformer that takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = vit()

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        out = self.body(pixel_values, labels=labels, interpolate_pos_encoding=True)
        return {"loss": out.loss, "logits": out.logits}


MODELS["vit"] = Case(Interpolating, _images, _sides(64, 96), (4, 96))


class Conv(nn.Module):
    """Convolutions with BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((3, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers, nn.Dropout(0.1)), nn.Linear(32, 10)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.body(pixel_values).mean((2, 3)))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


MODELS["conv"] = Case(
    Conv, lambda rows, side: _images(4 * rows, side), lambda _, last: (_rows(last), 24), (4, 24)
)


def wav2vec2() -> nn.Module:
    """Audio of a length."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    # Masks drawn by numpy and layers left out at random make no single graph.
    config = Wav2Vec2Config(
        vocab_size=32, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, conv_dim=(32, 32, 32), conv_stride=(5, 4, 2), conv_kernel=(10, 8, 4),
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, classifier_proj_size=32,
        apply_spec_augment=False, layerdrop=0.0, num_labels=10,
    )  # fmt: skip
    return Wav2Vec2ForSequenceClassification(config)


def _audio(rows: int, length: int) -> Batch:
    return {
        "input_values": torch.randn(rows, 40 * length),
        "labels": torch.randint(0, 10, (rows,)),
    }


MODELS["wav2vec2"] = Case(wav2vec2, _audio, rows_and_length, (4, LONGEST))


class GraphNet(nn.Module):
    """Messages along edges, summed at nodes; both vary in number."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.enter = nn.Linear(16, width)
        self.messages = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(4))
        self.leave = nn.Linear(width, 10)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, nodes: torch.Tensor, edges: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        x = self.enter(nodes).relu()
        for layer in self.messages:
            sent = layer(torch.cat([x[edges[0]], x[edges[1]]], 1)).relu()
            x = x + self.dropout(torch.zeros_like(x).index_add(0, edges[1], sent))
        logits = self.leave(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def _graph(nodes: int, edges: int) -> Batch:
    return {
        "nodes": torch.randn(nodes, 16),
        "edges": torch.randint(0, nodes, (2, edges)),
        "labels": torch.randint(0, 10, (nodes,)),
    }


def _nodes_and_edges(generator: torch.Generator, last: bool) -> Sizes:
    nodes = skewed(generator)
    return nodes, nodes * 3 + skewed(generator)


MODELS["graph"] = Case(GraphNet, _graph, _nodes_and_edges, (LONGEST, 4 * LONGEST))
