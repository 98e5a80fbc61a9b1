"""A step's bytes over time, cut at the calls of its blocks: forward and backward."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch

from pebble.block_calls import BlockCall
from pebble.measure.allocator import memory_events, memory_profile

_MARK = "pebble block "


class Phase(Enum):
    """What a segment of a step begins with."""

    BEGIN = "begin"
    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True)
class Segment:
    """The step from one mark to the next.

    Attributes
    ----------
    phase : Phase
    at : BlockCall or None
        The call whose forward, or first backward, begins here.
    level_bytes, peak_bytes : int
        Held when it begins, and the most until the next one begins, beyond what was there before
        the step.
    """

    phase: Phase
    at: BlockCall | None
    level_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class StepTimeline:
    """A step, segment by segment."""

    segments: tuple[Segment, ...]

    @property
    def peak_bytes(self) -> int:
        """The most that the step holds beyond what was there before it."""
        return max(segment.peak_bytes for segment in self.segments)

    @property
    def calls(self) -> tuple[BlockCall, ...]:
        """The calls in the order of their forwards."""
        return tuple(s.at for s in self.segments if s.at is not None and s.phase is Phase.FORWARD)


class Marker:
    """Marks where calls begin, while a step runs; a call's backward once."""

    def __init__(self) -> None:
        self.marks: list[tuple[Phase, BlockCall | None]] = []

    def mark(self, phase: Phase, at: BlockCall | None = None) -> None:
        """Something begins now."""
        if phase is Phase.BACKWARD and (phase, at) in self.marks:
            return
        self.marks.append((phase, at))
        self._note(len(self.marks) - 1)

    def _note(self, number: int) -> None:
        """Remember the moment; the subclasses know how."""


def record_timeline(run: Callable[[Marker], Any], device: str) -> StepTimeline:
    """Run a step once, and record what it holds from mark to mark."""
    gc.collect()
    place = torch.device(device)
    return _on_cuda(run, place) if place.type == "cuda" else _on_cpu(run)


class _ProfiledMarker(Marker):
    def _note(self, number: int) -> None:
        with torch.profiler.record_function(f"{_MARK}{number}"):
            pass


def _on_cpu(run: Callable[[Marker], Any]) -> StepTimeline:
    marker = _ProfiledMarker()
    with memory_profile() as profile:
        marker.mark(Phase.BEGIN)
        result = run(marker)
    del result  # held to the end of the measurement
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr, unused-ignore]
    starts = {
        int(e.name().removeprefix(_MARK)): e.start_ns()
        for e in events
        if e.name().startswith(_MARK)
    }
    times, sizes = memory_events(profile)
    live = np.concatenate([[0], np.cumsum(sizes)])
    cuts = [int(np.searchsorted(times, starts[n])) for n in range(len(marker.marks))]
    ends = [*cuts[1:], len(times)]
    return StepTimeline(
        tuple(
            Segment(phase, at, int(live[first]), int(live[first : last + 1].max()))
            for (phase, at), first, last in zip(marker.marks, cuts, ends)
        )
    )


class _CountingMarker(Marker):
    """Reads the allocator's own counters at every mark."""

    def __init__(self, place: torch.device) -> None:
        super().__init__()
        self.place = place
        self.levels: list[int] = []
        self.peaks: list[int] = []

    def _note(self, number: int) -> None:
        torch.cuda.synchronize(self.place)
        stats = torch.cuda.memory_stats(self.place)
        self.peaks.append(stats["requested_bytes.all.peak"])
        self.levels.append(stats["requested_bytes.all.current"])
        torch.cuda.reset_peak_memory_stats(self.place)


def _on_cuda(run: Callable[[Marker], Any], place: torch.device) -> StepTimeline:
    marker = _CountingMarker(place)
    marker.mark(Phase.BEGIN)
    result = run(marker)
    torch.cuda.synchronize(place)
    marker.peaks.append(torch.cuda.memory_stats(place)["requested_bytes.all.peak"])
    del result
    base = marker.levels[0]
    return StepTimeline(
        tuple(
            Segment(phase, at, level - base, peak - base)
            for (phase, at), level, peak in zip(marker.marks, marker.levels, marker.peaks[1:])
        )
    )
