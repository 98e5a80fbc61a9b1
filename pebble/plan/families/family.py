"""A family of plans: one budget, a few schedules, every batch size and length."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.formatting import Printed, count, gigabytes, table
from pebble.plan.cap import Cap
from pebble.plan.families.domains import Domain
from pebble.plan.families.polynomials import Shape
from pebble.plan.families.sized_step import SizedStep
from pebble.plan.plan_file import file_header, write_plan_file
from pebble.record import StepRecord
from pebble.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

_ROWS = 8
"""Lengths in a table."""


@dataclass(frozen=True, repr=False)
class Family(Printed):
    """Plans of one model for every batch size and length of a domain, within one budget.

    A length is how many tokens, frames or what else each sample has; models without one have 0.

    Attributes
    ----------
    budget_bytes : int
        For the whole step.
    step : SizedStep
        At any shape.
    schedules : tuple of Schedule
        The first recomputes nothing.
    lengths : (int, int)
        Shortest and longest; (0, 0) without lengths.
    batches : (int, int)
        Smallest and largest.
    record : StepRecord
        What it was made from.
    cap : Cap
        Whether the budget is for the bytes of tensors or for what a card reserves.
    """

    budget_bytes: int
    step: SizedStep
    schedules: tuple[Schedule, ...] = field(repr=False)
    lengths: tuple[int, int]
    batches: tuple[int, int]
    record: StepRecord = field(repr=False)
    cap: Cap = field(default_factory=Cap)
    level: ClassVar[str] = "family"

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """Where each schedule is within the budget, and what it costs."""
        return tuple(Domain.of(self.step, schedule) for schedule in self.schedules)

    # -- questions -----------------------------------------------------------------------------

    def peak_bytes(self, *, batch: int, length: int | None = None) -> int:
        """Peak of the whole step at a shape by the schedule taken there.

        Where none is within the budget, the least of their peaks.

        Raises
        ------
        InvalidArgument
            If the shape is outside of the family.
        """
        shape = self._shape(batch, length)
        taken = self.schedule_at(batch=batch, length=length)
        if taken is not None:
            return self.domains[taken].peak_bytes(shape)
        return min(domain.peak_bytes(shape) for domain in self.domains)

    def overhead(self, *, batch: int, length: int | None = None) -> float:
        """Extra compute of the step at a shape, as a fraction.

        Raises
        ------
        InfeasibleBudget
            If no schedule is within the budget there.
        InvalidArgument
        """
        shape = self._shape(batch, length)
        taken = self.schedule_at(batch=batch, length=length)
        if taken is None:
            raise self.too_small(shape)
        whole = self.domains[0].cost_at(shape)
        return self.domains[taken].cost_at(shape) / max(whole, 1.0) - 1

    def schedule_at(self, *, batch: int, length: int | None = None) -> int | None:
        """Index of the cheapest schedule within the budget at a shape; None if there is none.

        Raises
        ------
        InvalidArgument
        """
        shape = self._shape(batch, length)
        fitting = [k for k, most in enumerate(self.largest(shape.length)) if batch <= most]
        return min(fitting, key=lambda k: self.domains[k].cost_at(shape), default=None)

    def max_batch(self, length: int | None = None) -> int:
        """The largest batch of a length that is within the budget; 0 if not one sample is.

        Raises
        ------
        InvalidArgument
        """
        return max(self.largest(self._length(length)))

    def least_bytes(self, length: int | None = None) -> int:
        """The least peak known for a step of the smallest batch of a length."""
        shape = Shape(self.batches[0], self._length(length))
        return min(domain.peak_bytes(shape) for domain in self.domains)

    def largest(self, length: int) -> tuple[int, ...]:
        """The largest batch of a length for each schedule."""
        known = self._largest.get(length)
        if known is None:
            found = [self._most(domain, length) for domain in self.domains]
            known = self._largest[length] = tuple(found)
        return known

    @cached_property
    def _largest(self) -> dict[int, tuple[int, ...]]:
        return {}

    def _most(self, domain: Domain, length: int) -> int:
        low, high = self.batches
        most = min(domain.largest_batch(length, self.budget_bytes), high)
        if most < low or not self.cap.is_reserved:
            return most if most >= low else 0
        # what a card reserves beside the tensors grows with them
        while most >= low:
            step = domain.step.footprint(Shape(most, length))
            if self.cap.holds(step, domain.schedule, self.budget_bytes):
                return most
            most -= max(most // 32, 1)
        return 0

    def too_small(self, shape: Shape) -> InfeasibleBudget:
        """Says that a shape does not fit, and what it needs."""
        least = self.least_bytes(shape.length or None)
        return InfeasibleBudget(
            f"No schedule of the family keeps a batch of {shape} within "
            f"{gigabytes(self.budget_bytes)}; {self.batches[0]} of that length "
            f"{'needs' if self.batches[0] == 1 else 'need'} {gigabytes(least)}. Use a smaller "
            "batch (family.max_batch), or a larger budget.",
            budget_bytes=self.budget_bytes,
            least_bytes=least,
        )

    def _length(self, length: int | None) -> int:
        low, high = self.lengths
        if high == 0:
            if length:
                raise InvalidArgument(
                    f"This family has no lengths; length={length!r} says nothing."
                )
            return 0
        if length is None or not low <= length <= high:
            raise InvalidArgument(
                f"length is {length!r}; this family has lengths {low} to {high}. Make one with "
                f"lengths=({min(low, length or low)}, {max(high, length or high)})."
            )
        return int(length)

    def _shape(self, batch: int, length: int | None) -> Shape:
        low, high = self.batches
        if not low <= batch <= high:
            raise InvalidArgument(
                f"batch is {batch!r}; this family has batches of {low} to {high}: others have "
                "other ops, and are planned when they are met."
            )
        return Shape(batch, self._length(length))

    # -- for people and files ------------------------------------------------------------------

    def table_lengths(self, most: int = _ROWS) -> list[int]:
        """Lengths spread over the domain."""
        low, high = self.lengths
        return sorted({round(low + (high - low) * i / max(most - 1, 1)) for i in range(most)})

    def table(self, lengths: Iterable[int] | None = None) -> str:
        """The largest batch of each length without recomputation and with it, as text.

        Parameters
        ----------
        lengths : iterable of int, optional
            Default: some of the domain.
        """
        rows = []
        for length in self.table_lengths() if lengths is None else lengths:
            most, kept = self.max_batch(length or None), self.largest(length)[0]
            cells = [str(length or "any"), str(kept), str(most)]
            if most:
                given = length or None
                cells += [
                    str(self.schedule_at(batch=most, length=given)),
                    gigabytes(self.peak_bytes(batch=most, length=given)),
                    f"{self.overhead(batch=most, length=given):.1%}",
                ]
            rows.append([*cells, "-", "-", "-"][:6])
        header = ["length", "nothing recomputed", "largest batch", "schedule", "peak", "compute"]
        return table(header, rows)

    def __str__(self) -> str:
        low, high = self.lengths
        spans = f"lengths {low} to {high}, " if high else ""
        return (
            f"Family of {self.record.model}: {spans}batches from {self.batches[0]}, "
            f"{count(len(self.schedules), 'schedule')} within {gigabytes(self.budget_bytes)}\n"
            f"{self.table()}"
        )

    def plot(self, ax: Any = None) -> Any:
        """See `pebble.plotting.plot_family`."""
        from pebble.plan.families.plots import plot_family

        return plot_family(self, ax=ax)

    def apply(self, model: nn.Module, **options: Any) -> nn.Module:
        """A module that trains a model within the budget by these schedules.

        Parameters
        ----------
        model : nn.Module
        **options
            Of `pebble.budgeted`, instead of those that the family was made with: a `loss` must be
            passed if it was made with one, and an `optimizer` that has a state.

        Raises
        ------
        InvalidArgument
        """
        from pebble.plan.families.following import budgeted_again
        from pebble.plan.families.planners import planner_of

        given = {"budget_kind": self.cap.kind} | options
        module = budgeted_again(model, self.record, self.budget_bytes, given)
        planner_of(module).adopt(self.step, self.schedules)
        return module

    def to_json(self) -> dict[str, Any]:
        """The family as plain data."""
        return {
            **file_header(),
            "level": self.level,
            "budget_bytes": self.budget_bytes,
            "lengths": list(self.lengths),
            "batches": list(self.batches),
            "schedules": [list(schedule.order) for schedule in self.schedules],
            "cap": self.cap.to_json(),
            "origin": self.record.to_json(),
            "step": self.step.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Family:
        """A family from the data that `to_json` gives; every schedule is replayed.

        Raises
        ------
        PlanFormatError, GraphError, InvalidSchedule
        """
        from pebble.plan.families.family_checks import check_family

        check_family(data)
        step = SizedStep.from_json(data["step"])  # its graph is checked before schedules are
        family = cls(
            budget_bytes=data["budget_bytes"],
            step=step,
            schedules=tuple(Schedule(tuple(order)) for order in data["schedules"]),
            lengths=tuple(data["lengths"]),
            batches=tuple(data["batches"]),
            record=StepRecord.from_json(data["origin"]),
            cap=Cap.of(data["cap"]),
        )
        assert family.domains  # replayed
        return family

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the family as JSON: the file is there whole, or not at all.

        Raises
        ------
        InvalidArgument
            If the folder is missing or nothing can be written there.
        """
        write_plan_file(path, self.to_json())
