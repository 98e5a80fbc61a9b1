"""The allocator's trace: every temporary, every release, nothing that was there before."""

from __future__ import annotations

import torch

from pebble.measure.allocator import trace_memory


def test_the_allocator_s_trace_sees_temporaries_and_releases() -> None:
    def run() -> torch.Tensor:
        a = torch.zeros(1000)
        b = a.sin()
        del a
        return b.cos()

    trace = trace_memory(run)
    assert trace.peak == 8000
    assert trace.live.tolist() == [4000, 8000, 4000, 8000, 4000]
    assert trace.result.shape == (1000,)
    assert trace_memory(lambda: None).peak == 0
    held = torch.zeros(1000)
    assert trace_memory(lambda: held.add_(1)).peak < 100, "what was there before does not count"
