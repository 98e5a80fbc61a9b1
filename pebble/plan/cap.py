"""What a plan holds within its budget: the bytes that tensors take, or what a card reserves."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pebble.allocator.caching import OutOfCardMemory
from pebble.allocator.replays import AllocatorPeaks, replay
from pebble.allocator.rules import AllocatorSettings
from pebble.allocator.training_events import training_events
from pebble.budget import Footprint
from pebble.formatting import gigabytes
from pebble.options import ALLOCATED, RESERVED
from pebble.referee import Trace
from pebble.schedule import Schedule


@dataclass(frozen=True)
class Cap:
    """How a budget is held.

    Attributes
    ----------
    kind : "allocated" or "reserved"
        "reserved": the segments of torch's caching allocator, simulated, are within the budget.
    expandable_segments : bool
        Whether that allocator is set up with them.
    allowance_bytes : int
        By how much the tensors stay below the budget for the sake of what is reserved beside them.
    at_limit : bool
        Whether segments without tensors must be given back for it, which the allocator does where
        the card has no more or `torch.cuda.set_per_process_memory_fraction` says so.
    """

    kind: str = ALLOCATED
    expandable_segments: bool = False
    allowance_bytes: int = 0
    at_limit: bool = False

    @classmethod
    def for_device(cls, kind: str | None, device: str) -> Cap:
        """The cap asked for; None: what a card reserves on a card, the tensors elsewhere."""
        chosen = kind or (RESERVED if device.startswith("cuda") else ALLOCATED)
        return cls(chosen, chosen == RESERVED and expandable_here())

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> Cap:
        """The cap of a plan file; older files hold allocated bytes."""
        return cls(**data) if data else cls()

    @property
    def is_reserved(self) -> bool:
        """Whether the budget is for what a card reserves."""
        return self.kind == RESERVED

    def settings(self, budget_bytes: int) -> AllocatorSettings:
        """The allocator in which the budget is held."""
        return AllocatorSettings(budget_bytes if self.at_limit else None, self.expandable_segments)

    def holds(self, step: Footprint, schedule: Schedule, budget_bytes: int) -> bool:
        """Whether a step by a schedule is within a budget of this kind."""
        if not step.fits(schedule, budget_bytes):
            return False
        if not self.is_reserved:
            return True
        try:
            peaks = replay(training_events(step, schedule), self.settings(budget_bytes))
        except OutOfCardMemory:
            return False
        return peaks.reserved <= budget_bytes

    def here(self, device: str) -> Cap:
        """The same with the allocator as it is set up in this process, if that is on a card."""
        if not self.is_reserved or not device.startswith("cuda"):
            return self
        return replace(self, expandable_segments=expandable_here())

    def to_json(self) -> dict[str, Any]:
        """The cap as plain data."""
        return asdict(self)


class CardMemory:
    """What a plan says of memory: by kind, and on a card. A part of `pebble.plan.plan.Plan`."""

    cap: Cap
    budget_bytes: int
    schedule: Schedule

    if TYPE_CHECKING:

        @property
        def footprint(self) -> Footprint:
            """What the step needs."""

        @property
        def trace(self) -> Trace:
            """The replay of the schedule."""

        @property
        def peak_bytes(self) -> int:
            """Predicted peak of the tensors."""

    @cached_property
    def allocator_peaks(self) -> AllocatorPeaks:
        """Peaks requested, allocated and reserved in torch's caching allocator, simulated."""
        events = training_events(self.footprint, self.schedule)
        settings = self.cap.settings(self.budget_bytes)
        try:
            return replay(events, settings)
        except OutOfCardMemory:
            return replay(events, replace(settings, limit_bytes=None))

    @property
    def held_bytes(self) -> int:
        """The peak that the budget is for."""
        return self.allocator_peaks.reserved if self.cap.is_reserved else self.peak_bytes

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by kind at the moment of the predicted peak.

        Where the budget is for what a card reserves, "rounding" and "fragmentation" are what its
        allocator takes beside the tensors.
        """
        kinds = self.footprint.kinds_at_peak(self.trace)
        if self.cap.is_reserved:
            peaks = self.allocator_peaks
            kinds |= {"rounding": peaks.rounding, "fragmentation": peaks.fragmentation}
        return kinds

    @property
    def card_text(self) -> str:
        """What is reserved on a card and how that was made to fit; empty for other budgets."""
        if not self.cap.is_reserved:
            return ""
        peaks = self.allocator_peaks
        how = "with expandable segments" if self.cap.expandable_segments else "by default"
        text = (
            f"On a card: {gigabytes(peaks.requested)} requested, {gigabytes(peaks.allocated)} "
            f"allocated, {gigabytes(peaks.reserved)} reserved by torch's caching allocator {how} "
            f"(simulated), {gigabytes(peaks.fragmentation)} of it fragmentation."
        )
        if self.cap.allowance_bytes:
            text += (
                f" Tensors were planned for {gigabytes(self.cap.allowance_bytes)} less than the "
                "budget, so that what is reserved stays within it."
            )
        if self.cap.at_limit:
            text += (
                f" For that the allocator gives back unused segments at the limit, {peaks.releases}"
                " times in three steps: set torch.cuda.set_per_process_memory_fraction, or have "
                "expandable segments (PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True)."
            )
        return text


def expandable_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process has torch's allocator use expandable segments.

    Examples
    --------
    >>> expandable_here({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
    True
    """
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if name in environment:
            said = re.findall(r"expandable_segments\s*:\s*(\w+)", environment[name])
            return bool(said) and said[-1] in ("True", "1")
    return False
