"""`family`: plans of a model for every batch size and length within a budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from pebble.arguments import check_time_limit
from pebble.budget import Footprint
from pebble.deadline import Deadline
from pebble.errors import InvalidArgument
from pebble.formatting import gigabytes
from pebble.plan.budgeted import budgeted
from pebble.plan.cap import Cap
from pebble.plan.families.family import Family
from pebble.plan.families.planners import planner_of
from pebble.plan.families.polynomials import Basis, Shape
from pebble.plan.families.schedule_search import ScheduleSearch
from pebble.plan.families.shaped_inputs import ShapedInputs, check_lengths
from pebble.plan.families.sized_step import SizedStep
from pebble.plan.replanning import Replanner
from pebble.plan.search import PlanSearch
from pebble.progress import open_line, watched
from pebble.runtime.follower import unplanned
from pebble.runtime.planned_module import PlannedModule
from pebble.tracing.resized_inputs import changing_dimensions

if TYPE_CHECKING:
    from pebble.measure.step import Step

FAMILY_SECONDS = 30.0
"""Of search for schedules."""
_BATCHES = (2, 8)
"""Samples of the steps that sizes and costs are fitted to; one alone has other ops."""
_HELD_OUT = 5


def _told(found: Family) -> str:
    return f"{len(found.schedules)} schedules within {gigabytes(found.budget_bytes)}"


@watched(_told)
def family(
    model: nn.Module,
    inputs: Any = None,
    *,
    lengths: tuple[int, int] | None = None,
    max_batch: int = 2**14,
    time_limit: float = FAMILY_SECONDS,
    display: bool | None = None,
    **options: Any,
) -> Family:
    """Plans of a model for every batch size and length, within one budget; nothing is trained.

    A few shapes are traced, and every size, cost and temporary of the step is a function of batch
    and length through them, checked on shapes held out.

    Parameters
    ----------
    model : nn.Module
        A model, with `budget_gb` or `budget_bytes`; or what `pebble.budgeted` returned, whose
        budget and options it has: then its calls follow the schedules of this family.
    inputs : callable, tensor, tuple, mapping or None
        A function of batch size and length (of the batch size alone without `lengths`); or an
        example batch, repeated and cut along its first dimension and along every later one of the
        size of its second; or None where inputs can be inferred.
    lengths : (int, int), optional
        Shortest and longest. Default: the batch alone changes.
    max_batch : int
        Batches above this are not looked for.
    time_limit : float
        Seconds of search for schedules, tracing left out.
    display : bool, optional
        Show progress, and in the end what came out; default: on a terminal and in a notebook.
    **options
        Of `pebble.budgeted`.

    Returns
    -------
    Family

    Raises
    ------
    CaptureError
        If the sizes of the step are no polynomials of batch and length.
    InfeasibleBudget
        If no schedule keeps the smallest step within the budget.
    InvalidArgument, InputsRequired

    Examples
    --------
    >>> import torch, pebble
    >>> net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(3)])
    >>> found = pebble.family(net, torch.ones(4, 64), budget_gb=0.0004, time_limit=1)
    >>> found.peak_bytes(batch=found.max_batch()) <= found.budget_bytes
    True
    """
    check_time_limit(time_limit)
    span = check_lengths(lengths)
    if isinstance(model, PlannedModule):
        if options:
            raise InvalidArgument(
                f"The module is planned already, so {', '.join(options)} cannot be passed here: "
                "the family has the options of pebble.budgeted."
            )
        module: nn.Module = model
    else:
        module = budgeted(model, display=display, **options)
    planner = planner_of(module)
    maker = _Maker(planner, unplanned(module), ShapedInputs(unplanned(module), inputs))
    made = maker.make(span, max_batch, time_limit)
    planner.adopt(made.step, made.schedules)
    return made


class _Maker:
    """Traces some shapes and looks for schedules."""

    def __init__(self, planner: Replanner, model: nn.Module, inputs: ShapedInputs) -> None:
        self.planner, self.model, self.inputs = planner, model, inputs
        self.last: Step | None = None

    def make(self, lengths: tuple[int, int], max_batch: int, seconds: float) -> Family:
        asked = self.planner.asked
        step = self._fitted(lengths)
        assert self.last is not None
        batches = (_BATCHES[0], max_batch)
        cap = Cap.for_device(asked.search.budget_kind, self.last.captured.device)
        search = PlanSearch(asked.budget_bytes, asked.search, Deadline(seconds))
        open_line().part("schedules")
        schedules = ScheduleSearch(step, search, lengths, batches).run()
        found = Family(asked.budget_bytes, step, schedules, lengths, batches, self.last.record, cap)
        shortest = lengths[0] or None
        if not found.max_batch(shortest):
            raise found.too_small(Shape(batches[0], lengths[0]))
        return self._checked(found)

    def _fitted(self, lengths: tuple[int, int]) -> SizedStep:
        low, high = lengths
        high = high if high == low else max(high, low + 2)
        middle = (low + high) // 2
        varies = high > low
        basis = Basis.of(batches=True, lengths=varies)
        self._open_sizes(Shape(_HELD_OUT, middle), Shape(_BATCHES[0], high))
        used = (low, middle, high) if varies else (high,)
        anchors = {Shape(b, n): self._at(Shape(b, n)) for n in used for b in _BATCHES}
        held = Shape(_HELD_OUT, (low + 2 * high) // 3)
        return SizedStep.fit(basis, anchors, {held: self._at(held)})

    def _open_sizes(self, one: Shape, other: Shape) -> None:
        for what, changed in (
            ("batch", Shape(other.batch, one.length)),
            ("length", Shape(one.batch, other.length)),
        ):
            found = changing_dimensions(self.inputs(one), self.inputs(changed))
            if changed != one and not any((found or {}).values()):
                raise InvalidArgument(
                    f"The inputs for {one} and for {changed} have the same sizes: make them of the "
                    f"{what} that is asked for."
                )
        self.planner.source.open_for(self.model, self.inputs(one), self.inputs(other))

    def _at(self, shape: Shape) -> Footprint:
        open_line().part(str(shape))
        step = self.planner.source.step(self.model, self.inputs(shape))
        self.last = step
        return step.footprint

    def _checked(self, found: Family) -> Family:
        """The family, its largest batch held against a trace; smaller ones only if it fails."""
        length = found.lengths[0] or None
        most = found.max_batch(length)
        while most > _HELD_OUT:
            shape = Shape(most, found.lengths[0])
            step = self.planner.source.captured(self.model, self.inputs(shape))
            if found.step.has_sizes_of(shape, step.graph):
                return found
            most //= 2
            found = replace(found, batches=(found.batches[0], most))
        return found
