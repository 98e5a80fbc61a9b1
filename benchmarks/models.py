"""The models that the benchmarks plan, measure and compare: small enough to run on a CPU.

Every entry makes a model in training mode and its inputs (keyword arguments, labels included where
the model has a loss of its own). Nothing is downloaded: configurations only, random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Made = tuple[nn.Module, dict[str, Any]]
ZOO: dict[str, Callable[[], Made]] = {}


def entry(make: Callable[[], Made]) -> Callable[[], Made]:
    """Register a model under its function's name."""

    def seeded() -> Made:
        torch.manual_seed(0)
        model, inputs = make()
        return model.train(), inputs

    ZOO[make.__name__] = seeded
    return seeded


def tokens(batch: int, length: int, vocabulary: int) -> torch.Tensor:
    """Random ids, shape (batch, length)."""
    return torch.randint(0, vocabulary, (batch, length))


def language(model: nn.Module, batch: int, length: int, vocabulary: int, **more: Any) -> Made:
    """A language model whose labels are its inputs."""
    ids = tokens(batch, length, vocabulary)
    return model, {"input_ids": ids, "labels": ids.clone(), **more}


# -- transformers ------------------------------------------------------------------------------


@entry
def gpt2_dropout() -> Made:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=512, n_positions=128, n_embd=128, n_layer=4, n_head=4, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return language(GPT2LMHeadModel(config), 4, 128, 512)


@entry
def bert_dropout() -> Made:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=512, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=512, max_position_embeddings=128,
    )  # fmt: skip
    return language(BertForMaskedLM(config), 4, 128, 512)


def llama(layers: int = 4, **more: Any) -> nn.Module:
    """A small Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=512, hidden_size=128, intermediate_size=344, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        use_cache=False, **more,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@entry
def llama_small() -> Made:
    return language(llama(), 4, 128, 512)


@entry
def llama_tied() -> Made:
    return language(llama(tie_word_embeddings=True), 4, 128, 512)


@entry
def llama_lora() -> Made:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        llama(), LoraConfig(r=8, target_modules=["q_proj", "v_proj"], lora_dropout=0.0)
    )
    return language(adapted, 4, 128, 512)


@entry
def mixtral() -> Made:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=512, hidden_size=96, intermediate_size=192, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=128, use_cache=False,
    )  # fmt: skip
    config._experts_implementation = "batched_mm"  # the default loops over data-dependent sizes
    return language(MixtralForCausalLM(config), 2, 64, 512)


@entry
def t5() -> Made:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=512, d_model=96, d_kv=24, d_ff=256, num_layers=2, num_heads=4,
        decoder_start_token_id=0, use_cache=False, dropout_rate=0.1,
    )  # fmt: skip
    return language(T5ForConditionalGeneration(config), 4, 64, 512)


@entry
def vit() -> Made:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=96, num_hidden_layers=4, num_attention_heads=4, intermediate_size=384,
        image_size=64, patch_size=8, num_labels=10,
    )  # fmt: skip
    pixels = torch.randn(8, 3, 64, 64)
    return ViTForImageClassification(config), {
        "pixel_values": pixels,
        "labels": torch.randint(0, 10, (8,)),
    }


@entry
def convnext() -> Made:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(
        hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 2, 1], image_size=64, num_labels=10
    )
    return ConvNextForImageClassification(config), {
        "pixel_values": torch.randn(4, 3, 64, 64),
        "labels": torch.randint(0, 10, (4,)),
    }


@entry
def whisper() -> Made:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=512, d_model=64, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128,
        decoder_ffn_dim=128, num_mel_bins=20, max_source_positions=50, max_target_positions=64,
        use_cache=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, dropout=0.1, apply_spec_augment=False,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config), {
        "input_features": torch.randn(2, 20, 100),
        "labels": tokens(2, 32, 512),
    }


@entry
def mamba() -> Made:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=256, hidden_size=64, state_size=8, num_hidden_layers=2, use_cache=False
    )
    return language(MambaForCausalLM(config), 2, 24, 256)


# -- convolutions and recurrences --------------------------------------------------------------


class WithLoss(nn.Module):
    """A classifier or regressor together with its loss."""

    def __init__(self, body: nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.body = body
        self.loss = loss

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.body(x), y)


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm and in-place ReLU."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inner != outer:
            self.skip = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.skip(x))


def resnet_body() -> nn.Sequential:
    """A ResNet of six blocks."""
    widths = [(16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        *[ResidualBlock(*w) for w in widths],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


@entry
def resnet() -> Made:
    return WithLoss(resnet_body(), F.cross_entropy), {
        "x": torch.randn(8, 3, 32, 32),
        "y": torch.randint(0, 10, (8,)),
    }


class UNet(nn.Module):
    """Three levels down, three up, with long skips by concatenation."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()

        def double(inner: int, outer: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inner, outer, 3, padding=1), nn.GroupNorm(4, outer), nn.SiLU(),
                nn.Conv2d(outer, outer, 3, padding=1), nn.GroupNorm(4, outer), nn.SiLU(),
            )  # fmt: skip

        w = [width * 2**k for k in range(4)]
        self.down = nn.ModuleList([double(3, w[0]), double(w[0], w[1]), double(w[1], w[2])])
        self.middle = double(w[2], w[3])
        self.lift = nn.ModuleList(
            [nn.ConvTranspose2d(w[k + 1], w[k], 2, stride=2) for k in (2, 1, 0)]
        )
        self.up = nn.ModuleList([double(2 * w[k], w[k]) for k in (2, 1, 0)])
        self.head = nn.Conv2d(w[0], 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for lift, block in zip(self.lift, self.up):
            x = block(torch.cat([lift(x), skips.pop()], 1))
        return self.head(x)


@entry
def unet() -> Made:
    x = torch.randn(2, 3, 64, 64)
    return WithLoss(UNet(), F.mse_loss), {"x": x, "y": torch.randn_like(x)}


class UnrolledLSTM(nn.Module):
    """An LSTMCell over time, as a loop that unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(32, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[1], 64)
        for step in x:
            h, c = self.cell(step, (h, c))
        return self.head(h)


@entry
def lstm_cell() -> Made:
    return WithLoss(UnrolledLSTM(), F.cross_entropy), {
        "x": torch.randn(16, 32, 32),
        "y": torch.randint(0, 5, (32,)),
    }


class Autocast(nn.Module):
    """A model whose forward runs under bfloat16 autocast."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = self.body(x)
        return F.mse_loss(out.float(), y)


@entry
def autocast_mlp() -> Made:
    layers: list[nn.Module] = []
    for _ in range(6):
        layers += [nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128), nn.LayerNorm(128)]
    return Autocast(nn.Sequential(*layers)), {
        "x": torch.randn(256, 128),
        "y": torch.randn(256, 128),
    }
