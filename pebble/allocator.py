"""What the allocator truly does while something runs: the measured side of every prediction."""

from __future__ import annotations

import gc
from collections.abc import Callable
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
    >>> trace_memory(lambda: (torch.zeros(256) + 1).sum()).peak
    2052
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        return _trace_cuda(run, torch.device(device))
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = run()
    events = profile.profiler.kineto_results.events()
    moments = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    moments.sort(key=lambda moment: moment[0])  # stable: equal times stay in recorded order
    live = np.cumsum(np.array([size for _, size in moments], np.int64))
    return AllocatorTrace(max(int(live.max(initial=0)), 0), live, result)


def _trace_cuda(run: Callable[[], Any], device: torch.device) -> AllocatorTrace:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    result = run()
    torch.cuda.synchronize(device)
    peak = torch.cuda.memory_stats(device)["requested_bytes.all.peak"]
    return AllocatorTrace(max(peak - before, 0), np.zeros(0, np.int64), result)


def measure_peak(run: Callable[[], Any], device: str = "cpu") -> int:
    """Most bytes that a run held at once beyond what was there before it.

    Examples
    --------
    >>> import torch
    >>> measure_peak(lambda: torch.zeros(256))
    1024
    """
    return trace_memory(run, device).peak
