"""A planned step beside the same step with everything kept: where they agree bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pebble.runtime.agreement import difference, same, tolerance
from pebble.runtime.bench import Bench, StepResults, deterministic
from pebble.runtime.planned_module import build
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured


@dataclass(frozen=True)
class StepModules:
    """The modules that are run beside the model.

    Attributes
    ----------
    kept : nn.Module
        The captured step with its loss in one piece and everything kept.
    twin : nn.Module
        The step that is planned, with everything kept; `kept` itself without chunks.
    planned : nn.Module
    draws : bool
        Whether the step draws random numbers.
    """

    kept: nn.Module
    twin: nn.Module
    planned: nn.Module
    draws: bool

    @classmethod
    def of(cls, model: nn.Module, captured: Captured, schedule: Schedule) -> StepModules:
        """The modules of a captured step and its schedule."""
        whole = captured.whole or captured
        kept = _kept(model, whole)
        twin = kept if whole is captured else _kept(model, captured)
        return cls(kept, twin, build(model, captured, schedule), _draws(captured))


def _kept(model: nn.Module, captured: Captured) -> nn.Module:
    return build(model, captured, Schedule.keep_all(captured.graph))


@dataclass(frozen=True)
class Agreement:
    """The part of a Validation that says what is equal."""

    loss_equal: bool
    gradients_equal: bool
    buffers_equal: bool
    eager_difference: float | None
    chunks_difference: float | None
    tolerance: float


def compare(bench: Bench, steps: StepModules) -> Agreement:
    """Run every step once from the same state, and compare what they leave behind."""
    with deterministic():
        expected, found = bench.results(steps.twin), bench.results(steps.planned)
        whole = None if steps.twin is steps.kept else bench.results(steps.kept)
        eager = None if steps.draws else bench.results(bench.model)
    return Agreement(
        loss_equal=same(expected.outputs, found.outputs),
        gradients_equal=same(expected.gradients, found.gradients),
        buffers_equal=same(expected.buffers, found.buffers),
        eager_difference=None if eager is None else difference(found.gradients, eager.gradients),
        chunks_difference=None if whole is None else _chunks_difference(found, whole),
        tolerance=tolerance(found.gradients),
    )


def _draws(captured: Captured) -> bool:
    """Whether the step draws random numbers."""
    return any(
        not op.recomputable
        and torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        for op, nodes in zip(captured.graph.ops, captured.op_nodes)
        for node in nodes[:1]
    )


def _chunks_difference(found: StepResults, whole: StepResults) -> float:
    """Of gradients and of the loss, the first output."""
    return max(
        difference(found.gradients, whole.gradients),
        difference(found.outputs[:1], whole.outputs[:1]),
    )
