"""What another way to train would buy a plan: one change at a time, the rest as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pebble.deadline import Deadline
from pebble.errors import PebbleError
from pebble.finetune.budget_prices import least_cost
from pebble.finetune.lora import adapted_copy
from pebble.finetune.variants import with_accumulation, with_optimizer
from pebble.measure.step import Step, trace
from pebble.options import LORA_RANK, StepOptions
from pebble.plan.explained_parts import Change
from pebble.plan.plan import Plan
from pebble.schedule import Schedule
from pebble.tracing.chunked_loss import suggest_chunks
from pebble.tracing.inputs import Inputs
from pebble.tracing.resized_inputs import example_batch, resized

_STATEFUL = ("adam", "adamw")
_LEAN = "adamw8bit"
_SEARCH_SECONDS = 1.0


@dataclass(frozen=True)
class _Other:
    """A changed step, and how it compares."""

    step: Step
    base: Step
    times: int = 1  # steps of it for one of the base
    base_cost: int | None = None
    start: Schedule | None = None
    estimated: bool = False


@dataclass(frozen=True)
class Changes:
    """What the changes that were tried would buy.

    Attributes
    ----------
    tried : tuple of Change
    skipped : tuple of str
        Those that there was no time for.
    """

    tried: tuple[Change, ...] = ()
    skipped: tuple[str, ...] = ()


def plan_changes(plan: Plan, deadline: Deadline, told: Callable[[str], None]) -> Changes:
    """What each change would buy that the plan's step allows.

    Parameters
    ----------
    plan : Plan
        With the step that it was made for.
    deadline : Deadline
        Changes for which another trace is needed are skipped where the time is up.
    told : callable
        Hears the name of each before it is tried.
    """
    step = plan.step
    assert step is not None
    tried, skipped = [], []
    slowest = 0.0
    for name, traces, make in _candidates(plan, step):
        if traces and (deadline.left <= slowest or deadline.left <= 0):
            skipped.append(name)
            continue
        told(name)
        began = time.perf_counter()
        try:
            other = make()
        except PebbleError:  # this step allows no such change
            continue
        if traces:
            slowest = max(slowest, time.perf_counter() - began)
        tried.append(_judged(name, other, plan, min(deadline.share(0.5), _SEARCH_SECONDS)))
    return Changes(tuple(c for c in tried if c.saved_bytes), tuple(skipped))


def _candidates(plan: Plan, step: Step) -> Iterator[tuple[str, bool, Callable[[], _Other]]]:
    """Name of each change, whether it takes a trace, and what makes it; the quick ones first."""
    whole, options = step.one_piece, step.options
    if options.optimizer in _STATEFUL:
        yield f"8-bit optimizer states ({_LEAN})", False, lambda: _leaner(step, plan)
    if not plan.chunks:
        yield "chunked_loss='auto'", False, lambda: _chunked(step, plan)
    if not isinstance(options.costs, str):  # given for the ops of this step alone
        return
    if plan.outputs == "all" and options.loss is None:
        yield "outputs='loss'", True, lambda: _loss_alone(whole)
    if plan.accumulation_steps == 1 and options.calls_in_flight == 1:
        yield "half the micro-batch, twice", True, lambda: _halved(whole)
    if all(parameter.requires_grad for parameter in whole.model.parameters()):
        yield f"LoRA, rank {LORA_RANK}", True, lambda: _adapted(whole)


def _judged(name: str, other: _Other, plan: Plan, seconds: float) -> Change:
    step, base = other.step, other.base
    peak = step.footprint.unplanned_peak
    room = plan.budget_bytes - plan.cap.allowance_bytes
    cost = least_cost(step.footprint, room, seconds, other.start)
    base_cost = other.base_cost or base.one_piece.graph.total_cost
    overhead = None if cost is None else other.times * cost / max(base_cost, 1) - 1
    return Change(name, peak, base.footprint.unplanned_peak - peak, overhead, other.estimated)


def _loss_alone(step: Step) -> _Other:
    asked = replace(_plain(step.options), outputs="loss")
    return _Other(trace(step.model, step.inputs, asked), step)


def _plain(options: StepOptions) -> StepOptions:
    """Without what is only asked where inputs are inferred, and with the loss in one piece."""
    return replace(options, chunks=0, batch_size=None, seq_len=None)


def _leaner(step: Step, plan: Plan) -> _Other:
    return _Other(with_optimizer(step, _LEAN), step, start=plan.schedule)


def _chunked(step: Step, plan: Plan) -> _Other:
    room = step.footprint.problem(plan.budget_bytes).budget
    return _Other(step.chunked(suggest_chunks(step.captured, room)), step)


def _halved(step: Step) -> _Other:
    batch = example_batch(step.inputs)
    half = trace(step.model, resized(step.inputs, max(batch // 2, 1)), _plain(step.options))
    return _Other(with_accumulation(half, 2), step, times=2 if batch > 1 else 1)


def _adapted(step: Step) -> _Other:
    """With adapters, on a copy without memory; compared with the step without temporaries."""
    model, inputs = adapted_copy(step.model, step.inputs, LORA_RANK)
    options = _plain(step.options)
    if not (options.optimizer is None or isinstance(options.optimizer, str)):
        options = replace(options, optimizer="adamw")
    other = trace(model, Inputs(*inputs), options)
    bare = step.graph.with_measures(workspaces=[0] * len(step.graph.ops))
    return _Other(
        other, replace(step, graph=bare), base_cost=other.graph.total_cost, estimated=True
    )
