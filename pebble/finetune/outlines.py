"""A step at any batch size as numbers alone: no graph is written again for each.

Sizes, temporaries and work of an op grow linearly with the batch, so two sizes tell all others; the
time of an op, which is the longer of two such lines, is found from its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pebble.budget import Resident
from pebble.graph import Graph
from pebble.measure.costs import costs_of_works, op_works
from pebble.measure.flops import Work
from pebble.measure.step import Step
from pebble.tracing.inputs import Inputs


class Outline:
    """Steps of every batch size, for planning only.

    Parameters
    ----------
    low, high : int
        Batch sizes.
    first, second : Step
        The step at these, of the same ops.
    """

    def __init__(self, low: int, first: Step, high: int, second: Step) -> None:
        self.low, self.first, self.high, self.second = low, first, high, second
        self._works = [op_works(step.captured) for step in (first, second)]
        self._whole = None
        if first.whole is not None and second.whole is not None:
            self._whole = Outline(low, first.whole, high, second.whole)

    def at(self, batch: int, inputs: Inputs) -> Step:
        """The step at a batch size, on inputs of that size; its fx graph is that of `high`."""
        a, b = self.first.graph, self.second.graph
        sizes = self._between(batch, _sizes(a), _sizes(b))
        workspaces = self._between(batch, _workspaces(a), _workspaces(b))
        kinds = {
            kind: self._number(batch, self.first.resident.kinds.get(kind, 0), size)
            for kind, size in self.second.resident.kinds.items()
        }
        peak = self._number(
            batch,
            self.first.resident.optimizer_step_peak,
            self.second.resident.optimizer_step_peak,
        )
        step = replace(
            self.second,
            graph=b.with_measures(costs=self._costs(batch), workspaces=workspaces, sizes=sizes),
            resident=Resident(kinds, peak),
            whole=None if self._whole is None else self._whole.at(batch, inputs),
        )
        return step.with_inputs(inputs)

    def _costs(self, batch: int) -> list[int]:
        costs = self.second.options.costs
        if not isinstance(costs, str):
            return [op.cost for op in self.second.graph.ops]
        works = [
            None if x is None or y is None else self._work(batch, x, y)
            for x, y in zip(*self._works, strict=True)
        ]
        return costs_of_works(works, self.second.captured, costs)

    def _work(self, batch: int, x: Work, y: Work) -> Work:
        flops, moved = self._number(batch, x.flops, y.flops), self._number(batch, x.bytes, y.bytes)
        return replace(y, flops=flops, bytes=moved)

    def _between(self, batch: int, x: Sequence[int], y: Sequence[int]) -> list[int]:
        return [self._number(batch, a, b) for a, b in zip(x, y, strict=True)]

    def _number(self, batch: int, x: int, y: int) -> int:
        """On the line through two numbers, rounded up."""
        return max(-((y - x) * (self.low - batch) // (self.high - self.low)) + x, 0)


def _sizes(graph: Graph) -> list[int]:
    return [value.size for value in graph.values]


def _workspaces(graph: Graph) -> list[int]:
    return [op.workspace for op in graph.ops]
