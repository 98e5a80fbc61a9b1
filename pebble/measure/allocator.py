"""What the allocator truly does while something runs: the measured side of every prediction."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pebble.collection import without_collection

Made = TypeVar("Made")
_MARK = "pebble::op"
_USUAL_ROOM = 8 * 2**30  # where the system does not say


@dataclass(frozen=True)
class AllocatorTrace:
    """Bytes that a run held beyond what was there before it.

    Attributes
    ----------
    peak : int
        The most that was held at once.
    live : int array, shape (n_events,)
        Bytes held after each allocation and release, in order. Empty on CUDA, where the driver
        counts only the peak.
    result : object
        What the run returned; alive until the end of the measurement.
    """

    peak: int
    live: NDArray[np.int64] = field(repr=False)
    result: Any = field(repr=False, default=None)


def trace_memory(run: Callable[[], Any], device: str = "cpu") -> AllocatorTrace:
    """Run something once and record every byte that torch's allocator hands out meanwhile.

    On the CPU every allocation and release is seen, op-internal temporaries included (through the
    profiler's memory events). On CUDA the caching allocator's own count of requested bytes is
    read, before its rounding to blocks.

    Examples
    --------
    >>> import torch
    >>> trace_memory(lambda: torch.zeros(256).neg()).peak
    2048
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        return _trace_cuda(run, torch.device(device))
    with memory_profile() as profile:
        result = run()
    live = np.cumsum(memory_events(profile)[1])
    return AllocatorTrace(max(int(live.max(initial=0)), 0), live, result)


@contextlib.contextmanager
def memory_profile() -> Iterator[torch.profiler.profile]:
    """Torch's profiler on the CPU, recording every allocation and release."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it announces itself on standard error
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        yield profile


def memory_events(profile: torch.profiler.profile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Times (ns) and sizes (bytes, negative for a release) of a finished profile, in order."""
    events: list[Any] = list(profile.profiler.kineto_results.events())  # type: ignore[union-attr]
    moments = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    moments.sort(key=lambda moment: moment[0])  # stable: equal times stay in recorded order
    times, sizes = np.array(moments, np.int64).reshape(-1, 2).T
    return times, sizes


class Scales:
    """Weighs pieces of work one after another: the most that each holds beyond what was there.

    Meanwhile nothing else may be allocated or released inside a piece. On the CPU the weights are
    known when all is done.

    Examples
    --------
    >>> import torch
    >>> with Scales("cpu") as scales:
    ...     made = scales.weigh(lambda: torch.zeros(256).neg())
    >>> scales.peaks
    [2048]
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.peaks: list[int] = []
        self._on_card = self.device.type == "cuda"
        self._stack = contextlib.ExitStack()
        self._profile: torch.profiler.profile | None = None

    def __enter__(self) -> Scales:
        self._stack.enter_context(without_collection())
        if not self._on_card:
            self._profile = self._stack.enter_context(memory_profile())
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        self._stack.close()
        if self._profile is not None and kind is None:
            self.peaks = _marked_peaks(self._profile)
            self._profile = None

    @property
    def warms_up(self) -> bool:
        """Whether the first run of a piece may build caches that stay."""
        return self._on_card

    def weigh(self, run: Callable[[], Made]) -> Made:
        """The result of a piece; it counts as a piece also if it raises."""
        if not self._on_card:
            with torch.profiler.record_function(_MARK):
                return run()
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_stats(self.device)["requested_bytes.all.current"]
        try:
            return run()
        finally:
            stats = torch.cuda.memory_stats(self.device)
            self.peaks.append(max(stats["requested_bytes.all.peak"] - before, 0))


def _marked_peaks(profile: torch.profiler.profile) -> list[int]:
    events: list[Any] = list(profile.profiler.kineto_results.events())  # type: ignore[union-attr]
    marks = sorted((e.start_ns(), e.end_ns()) for e in events if e.name() == _MARK)
    times, sizes = memory_events(profile)
    peaks = []
    for start, end in marks:
        first, last = np.searchsorted(times, start), np.searchsorted(times, end, side="right")
        peaks.append(max(int(np.cumsum(sizes[first:last]).max(initial=0)), 0))
    return peaks


def room_bytes(device: str) -> int:
    """Memory that is free for more tensors."""
    place = torch.device(device)
    if place.type == "cuda":
        free, _ = torch.cuda.mem_get_info(place)
        return free + torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _USUAL_ROOM


def _trace_cuda(run: Callable[[], Any], device: torch.device) -> AllocatorTrace:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    result = run()
    torch.cuda.synchronize(device)
    peak = torch.cuda.memory_stats(device)["requested_bytes.all.peak"]
    return AllocatorTrace(max(peak - before, 0), np.zeros(0, np.int64), result)
