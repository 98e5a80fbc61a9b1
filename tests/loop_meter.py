"""What a whole loop holds at most, planning and measuring included."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from pebble.measure import allocator


class LoopMeter:
    """Sees every byte that torch's allocator hands out on the CPU while something runs.

    Torch's profiler runs once at a time: where the library measures something itself, that run of
    it takes over, and its bytes are counted here as well.
    """

    def __init__(self) -> None:
        self.sizes: list[np.ndarray] = []
        self.inner = 0

    def peak(self, run: Callable[[], Any], monkeypatch: Any) -> int:
        """The most bytes beyond those that were there before."""
        own = allocator.memory_profile

        @contextlib.contextmanager
        def taking_over() -> Iterator[torch.profiler.profile]:
            self._stop()
            self.inner += 1
            with own() as profile:
                yield profile
            self.sizes.append(allocator.memory_events(profile)[1])
            self._start()

        self._own = own
        monkeypatch.setattr(allocator, "memory_profile", taking_over)
        self._start()
        try:
            run()
        finally:
            self._stop()
        return max(int(np.cumsum(np.concatenate(self.sizes)).max(initial=0)), 0)

    def _start(self) -> None:
        self._running = self._own()
        self._profile = self._running.__enter__()

    def _stop(self) -> None:
        self._running.__exit__(None, None, None)
        self.sizes.append(allocator.memory_events(self._profile)[1])
