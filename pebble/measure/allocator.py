"""What the allocator truly does while something runs: the measured side of every prediction."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


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


def _trace_cuda(run: Callable[[], Any], device: torch.device) -> AllocatorTrace:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    result = run()
    torch.cuda.synchronize(device)
    peak = torch.cuda.memory_stats(device)["requested_bytes.all.peak"]
    return AllocatorTrace(max(peak - before, 0), np.zeros(0, np.int64), result)
