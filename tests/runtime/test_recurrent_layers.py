"""A recurrent network layer by layer is the network, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from pebble.runtime.recurrent_layers import run_layers
from pebble.tracing.torch_private.pytree import tree_leaves

KINDS = {
    "lstm": lambda **more: nn.LSTM(5, 6, 3, dropout=0.3, **more),
    "lstm with projections": lambda **more: nn.LSTM(5, 6, 3, dropout=0.3, proj_size=4, **more),
    "gru": lambda **more: nn.GRU(5, 6, 3, dropout=0.3, bias=False, **more),
    "relu": lambda **more: nn.RNN(5, 6, 3, nonlinearity="relu", dropout=0.3, **more),
}


def inputs(kind: str, module: nn.RNNBase, form: str) -> tuple[Any, Any]:
    torch.manual_seed(1)
    batch, ways = 4, 2 if module.bidirectional else 1
    x = torch.randn(*((batch, 7) if module.batch_first else (7, batch)), 5)
    hidden = torch.randn(3 * ways, batch, getattr(module, "proj_size", 0) or 6)
    state: Any = (hidden, torch.randn(3 * ways, batch, 6)) if "lstm" in kind else hidden
    if form == "packed":
        lengths, first = [3, 7, 5, 2], module.batch_first
        return pack_padded_sequence(x, lengths, first, enforce_sorted=False), state
    if form == "single":
        one: Any = tuple(s[:, 0] for s in state) if "lstm" in kind else state[:, 0]
        return (x[0] if module.batch_first else x[:, 0]), one
    return x, state


def result(module: nn.RNNBase, call: Any) -> list[torch.Tensor]:
    module.zero_grad()
    torch.manual_seed(2)
    made = [leaf for leaf in tree_leaves(call()) if isinstance(leaf, torch.Tensor)]
    sum(t.square().sum() for t in made if t.requires_grad).backward()
    return [*made, *(p.grad.clone() for p in module.parameters()), torch.rand(1)]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("form", ["dense", "packed", "single"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_states_and_gradients_are_equal(
    kind: str, bidirectional: bool, batch_first: bool, form: str
) -> None:
    module = KINDS[kind](bidirectional=bidirectional, batch_first=batch_first)
    layers: list[int] = []

    def run(layer: int, function: Any, args: tuple[Any, ...]) -> Any:
        layers.append(layer)
        return function(*args)

    for state in (None, inputs(kind, module, form)[1]):
        x = inputs(kind, module, form)[0]
        expected = result(module, lambda x=x, state=state: module(x, state))
        found = result(module, lambda x=x, state=state: run_layers(module, x, state, run))
        assert len(found) == len(expected)
        assert all(map(torch.equal, found, expected))
    assert layers == [0, 1, 2, 0, 1, 2]
