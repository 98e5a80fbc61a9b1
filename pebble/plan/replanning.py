"""The planner of a module that plans by itself: from the call at hand to a plan for its form."""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

import torch
from torch import nn

from pebble.answers import Status
from pebble.deadline import Deadline
from pebble.errors import InfeasibleBudget
from pebble.formatting import count, gigabytes
from pebble.measure.optimizers import without_state
from pebble.measure.step import WAITING, Step
from pebble.measure.workspaces import Workspaces
from pebble.options import SearchOptions, StepOptions
from pebble.plan.background_search import BackgroundSearch
from pebble.plan.families.shaped_inputs import shape_of
from pebble.plan.families.sized_step import SizedStep
from pebble.plan.fitting import fitting, is_held, tell_reserved
from pebble.plan.search import PlanSearch
from pebble.plan.step_search import Found, Start, find_within
from pebble.plan.step_source import StepSource
from pebble.plan.unnamed_loss import (
    has_room_for_loss,
    tell_unnamed_loss,
    unnamed_loss_bytes,
)
from pebble.plan.wired_schedules import WiredSchedules
from pebble.progress import display_log, progress_line
from pebble.ranks import ALONE
from pebble.runtime.follower import Follower
from pebble.runtime.input_forms import describe
from pebble.runtime.planner import Planned
from pebble.runtime.promise import Promise
from pebble.runtime.step_check import StepCheck
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.dynamic_shapes import DynamicShapes
from pebble.tracing.inputs import Inputs

logger = logging.getLogger("pebble")

FIRST_SECONDS, LATER_SECONDS = 10.0, 2.0
"""Of search for the first form of inputs, and for those that follow with what is known by then."""
FIRST_OF_ALL_SECONDS = 1.0
"""Of search before training begins, where a search goes on beside it."""
_GOOD = 0.005
"""Extra compute up to which a schedule of another shape is taken without a search."""


Finder = Callable[[Step, PlanSearch, Start], Found]


class PlanStore(Protocol):
    """Where plans outlive the process."""

    def find(self, step: Step, search: PlanSearch) -> Found | None:
        """A plan for the very graph of a step, if there is one that fits."""

    def keep(self, found: Found, search: PlanSearch) -> None:
        """Keep what was found."""


class Source(StrEnum):
    """Where a plan comes from."""

    KEEP_ALL = "nothing need be recomputed"
    STORED = "from the cache"
    KNOWN = "the schedule of another shape"
    SOLVED = "solved"


@dataclass(frozen=True)
class Asked:
    """What every plan of a module is made with.

    Attributes
    ----------
    budget_bytes : int
        For the whole step.
    step : StepOptions
    search : SearchOptions
        Its time limit is that of one search, tracing left out.
    later_seconds : float
        Of the searches after the first.
    announce : bool
        Whether a line for each plan is shown.
    room_for_loss : bool
        Leave room for a loss that is computed outside where that is possible: nobody can name it.
    check : bool or None
        Whether each plan is compared with eager before it trains: True insists, None does so where
        an eager step fits the budget beside it, False never.
    background : bool
        Whether training goes on by the first plan found, while a better one is looked for.
    dynamic : DynamicShapes or None
        The sizes that vary, where the user tells.
    """

    budget_bytes: int
    step: StepOptions
    search: SearchOptions
    later_seconds: float
    announce: bool | None = None
    room_for_loss: bool = False
    check: bool | None = None
    background: bool = False
    dynamic: DynamicShapes | None = None


class Replanner:
    """Plans one form of inputs after the other within one budget.

    A form for which everything can be kept needs no solver, nor does one that a schedule found for
    another form fits at next to no cost. Copies share what was found.

    Parameters
    ----------
    asked : Asked
    store : PlanStore, optional
    find : callable
        The search where nothing simpler fits. By default what a card reserves beside the tensors
        is told, but not searched for.
    """

    def __init__(
        self, asked: Asked, store: PlanStore | None = None, find: Finder = find_within
    ) -> None:
        self.asked = asked
        self.store = store
        self.find = find
        self.known = WiredSchedules()
        self.source = StepSource(asked.step, asked.dynamic)
        self.sized: list[SizedStep] = []
        self.sources: dict[Source, int] = {}
        self.held_bytes: Callable[[], int] | None = None  # by the loop, beside the step
        self.further = BackgroundSearch()
        self.beside_bytes, self._told_loss = 0, False

    def __getstate__(self) -> dict[str, Any]:
        """What is saved or copied with a module: without the optimizer's state, or the loop."""
        step = self.asked.step
        state = self.__dict__ | {"held_bytes": None, "further": BackgroundSearch()}
        if not isinstance(step.optimizer, torch.optim.Optimizer):
            return state | {"source": StepSource(step, self.asked.dynamic)}
        own = replace(step, optimizer=without_state(step.optimizer))
        source = StepSource(own, self.asked.dynamic)
        return state | {"asked": replace(self.asked, step=own), "source": source}

    def __deepcopy__(self, memo: dict[int, Any]) -> Replanner:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__getstate__())
        if isinstance(twin.asked.step.optimizer, torch.optim.Optimizer):
            own = copy.deepcopy(twin.asked.step.optimizer, memo)  # of the copied parameters
            twin.asked = replace(twin.asked, step=replace(twin.asked.step, optimizer=own))
        twin.source = StepSource(
            twin.asked.step, self.asked.dynamic
        )  # its traces hold this model's own tensors
        return twin

    def __call__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Planned:
        """A plan for a call, made on the call's own inputs; nothing of the model changes.

        Raises
        ------
        InfeasibleBudget
            Names the inputs that do not fit.
        CaptureError, InvalidArgument, PlanMismatch
        """
        with progress_line(self.asked.announce, f"plan {type(model).__name__}") as line:
            planned = self._planned(model, args, kwargs)
            line.result("a plan for this form of inputs")
        return planned

    def _planned(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Planned:
        began = time.perf_counter()
        subject = f"{type(model).__name__} for {describe(args, kwargs)}"
        if not self.sources:
            self._say("Planning %s: a line for each form of inputs follows.", subject)
        inputs = Inputs(args, dict(kwargs))
        step = self.source.step(
            model,
            inputs,
            lambda made: self._bytes_of(made, inputs),
            self.next_search().budget_bytes,
        )
        traced = time.perf_counter() - began
        try:
            found, source, further = self._found(step)
        except InfeasibleBudget as error:
            raise error.of(subject) from None
        seconds = time.perf_counter() - began
        self.sources[source] = self.sources.get(source, 0) + 1
        self._say("Planned %s: %s; %.1f s.", subject, _told(found, source, traced), seconds)
        if not self._told_loss:
            schedule, replay = found.result.schedule, found.result.trace
            assert schedule is not None and replay is not None
            budget = self.next_search().budget_bytes
            self._told_loss = tell_unnamed_loss(found.step, schedule, replay, budget)
        eager = found.step.one_piece.footprint.unplanned_peak
        made = Planned(self._member(model, found), seconds, found.overhead, eager)
        if further is not None:
            self.further.wish(made.member, found, further)
        return made

    def has_open_trace(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """Whether a trace of open sizes holds for a call."""
        return self.source.opened(model, Inputs(args, dict(kwargs))) is not None

    def better(self, member: Follower, model: nn.Module) -> Planned | None:
        """A better plan than a member, found beside training."""
        bettered = self.further.better(member)
        if bettered is None:
            return None
        old, result, search, seconds = bettered
        assert result.schedule is not None
        found = fitting(old.step, search, result.schedule, result.solver)
        if found is None or found.overhead >= old.overhead:
            return None
        self._learned(found)
        text = "Bettered the plan of %s: %.2f %% more compute instead of %.2f %%."
        self._say(text, type(model).__name__, 100 * found.overhead, 100 * old.overhead)
        return Planned(self._member(model, found), seconds, found.overhead)

    def count_gradients(self, counted: bool) -> bool:
        """Have plans count, or not, the gradients of earlier micro-batches; whether that is new."""
        step = self.asked.step
        if step.accumulates is counted:
            return False
        step = replace(step, accumulation_steps=2 if counted else 1)
        self.asked, self.source = replace(self.asked, step=step), self.source.changed(step)
        return True

    def adopt(self, step: SizedStep, schedules: Iterable[Schedule]) -> None:
        """Follow the schedules of a family, and believe its sizes where they are met."""
        for schedule in schedules:
            self.known.learn(step.graph, schedule)
        self.known.settle(step.graph)
        self.sized.append(step)

    def _bytes_of(self, captured: Captured, inputs: Inputs) -> Workspaces | None:
        """What a family knows of the temporaries of a step whose sizes it has to the byte."""
        if not self.sized or captured.fake:
            return None
        shape = shape_of(inputs)
        for step in self.sized:
            if shape is not None and step.has_sizes_of(shape, captured.graph):
                threads = torch.get_num_threads()
                found = tuple(step.workspaces.at(shape).tolist())
                sizes = tuple(value.size for value in captured.graph.values)
                return Workspaces(found, sizes, True, captured.device, threads)
        return None

    def _say(self, text: str, *values: Any) -> None:
        with display_log(self.asked.announce):
            logger.info(text, *values)

    def next_search(self) -> PlanSearch:
        """The search for the next form of inputs: its budget and its time."""
        asked = self.asked
        first = not self.sources.get(Source.SOLVED)
        seconds = asked.search.time_limit if first else asked.later_seconds
        held = self.beside_bytes + (0 if self.held_bytes is None else self.held_bytes())
        return PlanSearch(max(asked.budget_bytes - held, 0), asked.search, Deadline(seconds))

    def _found(self, step: Step) -> tuple[Found, Source, PlanSearch | None]:
        """What is found for a step, and the search that is to go on beside training."""
        search = self.next_search()
        if not self.asked.background:
            return *self._with_room(step, search), None
        first = replace(search, deadline=Deadline(min(FIRST_OF_ALL_SECONDS, search.deadline.left)))
        found, source = self._with_room(step, first)
        if source is not Source.SOLVED or found.result.status is Status.OPTIMAL:
            return found, source, None
        # until it is over, this call's inputs are held beside those of the calls that follow
        if found.peak_bytes + step.resident.kinds.get("inputs", 0) <= search.budget_bytes:
            return found, source, search
        return *self._with_room(step, search), None

    def _with_room(self, step: Step, search: PlanSearch) -> tuple[Found, Source]:
        found, source = self._find(step, search)
        schedule, replay = found.result.schedule, found.result.trace
        assert schedule is not None and replay is not None
        budget = search.budget_bytes
        if not self.asked.room_for_loss or has_room_for_loss(step, schedule, replay, budget):
            return found, source
        with contextlib.suppress(InfeasibleBudget):
            less = replace(search, budget_bytes=budget - unnamed_loss_bytes(step))
            return self._find(step, less)
        return found, source

    def _find(self, step: Step, search: PlanSearch) -> tuple[Found, Source]:
        chunks = search.options.chunked_loss
        if chunks is not False and chunks != "auto":
            step = step.chunked(int(chunks))
        kept = fitting(step, search, Schedule.keep_all(step.graph), "keep_all")
        if kept is not None:
            return kept, Source.KEEP_ALL
        stored = None if self.store is None else self.store.find(step, search)
        if stored is not None and is_held(stored, search):
            return self._learned(stored), Source.STORED
        known = self.known.within(step.footprint, search.budget_bytes)
        if known is not None:
            found = fitting(step, search, known, "known")
            enough = self.known.is_settled(step.graph)
            if found is not None and (enough or found.overhead <= _GOOD):
                return found, Source.KNOWN
        found = self.find(step, search, self.known.within)
        if self.find is find_within and not is_held(found, search):
            tell_reserved(found, search)
        if self.store is not None:
            self.store.keep(found, search)
        return self._learned(found), Source.SOLVED

    def _learned(self, found: Found) -> Found:
        assert found.result.schedule is not None
        self.known.learn(found.step.graph, found.result.schedule)
        return found

    def _member(self, model: nn.Module, found: Found) -> Follower:
        captured, result = found.step.captured, found.result
        assert result.schedule is not None
        promise = Promise.of(
            captured,
            threads=found.step.record.threads,
            peak_bytes=found.peak_bytes + self.beside_bytes,
            budget_bytes=self.asked.budget_bytes,
            waiting_bytes=found.step.resident.kinds.get(WAITING, 0),
            resident=found.step.resident,
            ranks=found.step.options.ranks or ALONE,
        )
        member = Follower.of(model, captured, result.schedule, promise)
        self._compare(member, found)
        return member

    def _compare(self, member: Follower, found: Found) -> None:
        """Have a plan compared with eager on the call that it is made for."""
        check, step = self.asked.check, found.step
        if check is False:
            return
        pending = StepCheck(
            member.schedule,
            step.one_piece.footprint.unplanned_peak,
            step.resident.total,
            self.next_search().budget_bytes,
            step.captured,
        )
        if check:
            member.verdict = pending.insist(step.model, step.inputs)
        else:
            member.take_check(pending)


def _told(found: Found, source: Source, traced_seconds: float) -> str:
    whole = found.step.one_piece.footprint.unplanned.cost
    bound = max(found.result.lower_bound / max(whole, 1) - 1, 0.0)
    return (
        f"{count(len(found.step.graph.ops), 'op')} traced in {traced_seconds:.1f} s, peak "
        f"{gigabytes(found.peak_bytes)}, {found.overhead:.2%} more compute (at least {bound:.2%}), "
        f"{source}"
    )
