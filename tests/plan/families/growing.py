"""A small model whose memory grows with the batch and with the square of the length."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pebble.budget import Footprint, Resident
from pebble.graph import Graph, Op, Value
from pebble.measure.allocator import trace_memory
from pebble.plan.families.family import Family
from pebble.plan.families.polynomials import Basis, Shape
from pebble.plan.families.sized_step import SizedStep
from pebble.record import StepRecord
from pebble.schedule import Schedule
from pebble.tracing.torch_private.storages import storage_bytes

WORDS, WIDTH = 24, 8
BUDGET, SMALL_BUDGET = 150_000, 20_000


def sized_step() -> SizedStep:
    """A step of two ops whose values grow as attention does; no model, no trace."""

    def at(shape: Shape) -> Footprint:
        b, n = shape
        ops = [Op("a", 7 * b * n, (), (0,)), Op("b", b, (0,), (1,))]
        values = [Value("x", 4 * b * n * (n + 1) // 2), Value("y", 8 * b * n)]
        return Footprint(Graph(ops, values), Resident({"inputs": 8 * b * n}, 100))

    basis = Basis.of(batches=True, lengths=True)
    shapes = [Shape(b, n) for n in (8, 20, 40) for b in (2, 8)]
    held = Shape(5, 31)
    return SizedStep.fit(basis, {shape: at(shape) for shape in shapes}, {held: at(held)})


def small_family(lengths: tuple[int, int] = (8, 40)) -> Family:
    """A family of that step, of one schedule."""
    step = sized_step()
    schedules = (Schedule.keep_all(step.graph),)
    return Family(SMALL_BUDGET, step, schedules, lengths, (2, 1000), StepRecord())


class Tiny(nn.Module):
    """Attention with dropout, cheap to trace."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.layer, self.drop = nn.Linear(WIDTH, WIDTH), nn.Dropout(0.2)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        x = self.embedding(input_ids)
        x = x + self.drop((x @ x.transpose(1, 2)).softmax(-1)) @ self.layer(x).tanh()
        logits = self.head(x)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def tokens(batch: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.arange(batch * length).reshape(batch, length) % WORDS
    return {"input_ids": ids, "labels": ids.clone()}


def measured_peak(module: nn.Module, batch: dict[str, torch.Tensor]) -> int:
    """Bytes of forward and backward, everything that is there counted; planned before."""

    def step() -> Any:
        output = module(**batch)
        output["loss"].backward()
        return output

    step()
    module.zero_grad()
    taken = trace_memory(step).peak
    module.zero_grad()
    return storage_bytes([*module.parameters(), *batch.values()]) + taken
