"""Activations that a forward, a hook or checkpointing marks as requiring a gradient."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import pebble


class Frozen(nn.Module):
    """A frozen embedding in front of layers that are trained."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8).requires_grad_(False)
        self.body, self.mark = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), mark
        if mark == "hook":
            self.embed.register_forward_hook(make_inputs_require_grads)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        h = self.embed(words)
        if self.mark == "call":
            h.requires_grad_(True)
        elif self.mark == "attribute":
            h.requires_grad = True
        if h.requires_grad:
            h = h * 2
        return checkpoint(self.body, h, use_reentrant=False).square().mean()


def make_inputs_require_grads(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    """As `PreTrainedModel.enable_input_require_grads` registers it."""
    output.requires_grad_(True)


def assert_trains_like_eager(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    twin = copy.deepcopy(model)
    plan = pebble.optimize(
        model, batch, budget_bytes=10**9, optimizer=None, solver="recompute_all", costs="flops"
    )
    for step in (plan.apply(model), twin):
        made = step(**batch)
        getattr(made, "loss", made).backward()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None) == (not mine.requires_grad)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("mark", ["call", "attribute", "hook", "none"])
def test_marked_activations_are_traced(mark: str) -> None:
    assert_trains_like_eager(Frozen(mark), {"words": torch.randint(0, 10, (4, 5))})


def test_checkpointing_left_on_in_a_frozen_model_of_hugging_face() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).train()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model.get_input_embeddings().requires_grad_(False)
    words = torch.randint(0, 32, (1, 6))
    assert_trains_like_eager(model, {"input_ids": words, "labels": words.clone()})


def test_an_input_that_is_marked_is_refused_with_what_to_do() -> None:
    class Marks(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.requires_grad_())

    x = torch.randn(4, 8)
    with pytest.raises(pebble.CaptureError, match="before the call"):
        pebble.optimize(Marks(8, 8), x, budget_gb=1)
    assert not x.requires_grad
