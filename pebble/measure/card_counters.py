"""What a card's allocator counts while a training step runs, and how long the card takes for it.

The counters are read as they are, with all that was there before: nothing of the model is copied
for it. Not measured on a card so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pebble.collection import without_collection

_COUNTERS = {
    "requested": "requested_bytes.all.peak",
    "allocated": "allocated_bytes.all.peak",
    "reserved": "reserved_bytes.all.peak",
}


@dataclass(frozen=True)
class CardPeaks:
    """Peaks of torch's caching allocator, in bytes, what was there before included.

    Attributes
    ----------
    requested : int
        What tensors asked for.
    allocated : int
        Of the blocks that they are in.
    reserved : int
        Of all segments.
    """

    requested: int
    allocated: int
    reserved: int


def card_peaks(run: Callable[[], Any], device: torch.device) -> CardPeaks:
    """The peaks of a card's allocator while something runs.

    Source of the counters: `torch.cuda.memory_stats`.
    """
    with without_collection():
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        stats = torch.cuda.memory_stats(device)
    return CardPeaks(**{name: int(stats[key]) for name, key in _COUNTERS.items()})


def seconds_of(run: Callable[[], Any], device: torch.device, *, repeats: int = 1) -> float:
    """Seconds of one run: the mean of several in a row, on a card between two of its events."""
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(repeats):
            run()
        return (time.perf_counter() - began) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1e3 / repeats
