"""What a step changes of a model is put back: tensors, attributes, containers, arguments."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from pebble.measure.model_state import ModelState
from pebble.measure.random_sources import RandomSources


class Node:
    def __init__(self) -> None:
        self.state: torch.Tensor | None = None


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.plain = torch.zeros(2)
        self.count = 0
        self.seen: list[int] = []
        self.notes: dict[str, int] = {}
        self.drawn = torch.Generator().manual_seed(1)

    def forward(self, x: torch.Tensor, node: Node) -> torch.Tensor:
        self.mean += 1
        self.mean = self.mean * 2
        self.plain += 1
        self.count += 1
        self.seen.append(self.count)
        self.notes["calls"] = self.count
        self.last = x
        node.state = x.mul_(2)
        return x


def test_everything_is_as_it_was() -> None:
    model, x, node = Writes(), torch.ones(2), Node()
    before = ModelState(model, [x, node])
    mean, seen = model.mean, model.seen
    model(x, node)
    assert not before.same_as(ModelState(model, [x, node]))
    before.restore()
    assert before.same_as(ModelState(model, [x, node]))
    assert model.mean is mean
    assert model.mean.tolist() == model.plain.tolist() == [0, 0]
    assert (model.count, model.seen, model.notes) == (0, [], {})
    assert model.seen is seen
    assert not hasattr(model, "last")
    assert x.tolist() == [1, 1]
    assert node.state is None


def test_a_mark_on_an_input_is_taken_back() -> None:
    x = torch.ones(2)
    before = ModelState(nn.Identity(), [x])
    x.requires_grad_()
    before.restore()
    assert not x.requires_grad


def test_random_sources_are_found_and_put_back() -> None:
    model = Writes()
    sources = RandomSources(model)
    states = sources.states()

    def draw() -> tuple[float, float, float]:
        drawn = torch.rand(1, generator=model.drawn)
        return random.random(), float(np.random.rand()), drawn.item()  # noqa: NPY002

    first = draw()
    sources.restore(states)
    assert draw() == first
    sources.reseed(5)
    assert draw() != first
