from __future__ import annotations

import pytest

from pebble.allocator.caching import OutOfCardMemory
from pebble.allocator.replays import AllocatorPeaks, least_limit, replay, runs_within
from pebble.allocator.rules import AllocatorSettings
from pebble.allocator.training_events import Event, TrainingEvents

MB = 2**20


def loop(*step: tuple[int, int], **more: tuple[int, ...]) -> TrainingEvents:
    parts = {"resident": (), "held": (), "optimizer_state": (), "temporaries": ()} | more
    return TrainingEvents(step=tuple(Event(t, size * MB) for t, size in step), **parts)


TWO_SIZES = loop((0, 30), (0, 0), (1, 40), (1, 0))
"""The second tensor does not fit into the segment of the first."""


def test_peaks_and_their_differences() -> None:
    peaks = replay(TWO_SIZES)
    assert peaks == AllocatorPeaks(40 * MB, 40 * MB, 70 * MB)
    assert (peaks.rounding, peaks.fragmentation) == (0, 30 * MB)
    assert replay(loop(resident=(1,))).rounding == 511


def test_the_optimizer_s_state_takes_what_the_first_step_has_left() -> None:
    """It lies in the segment of the activation, which needs another from the second step on."""
    step = loop((0, 30), (0, 0), optimizer_state=(12 * MB,))
    assert replay(step, steps=1).reserved == 30 * MB
    assert replay(step).reserved == 60 * MB
    assert replay(step).allocated == 42 * MB


def test_gradients_are_held_until_the_optimizer_has_stepped() -> None:
    step = loop((0, 12), held=(0,), temporaries=(12 * MB,))
    assert replay(step).allocated == 24 * MB


def test_at_the_limit_segments_are_given_back() -> None:
    peaks = replay(TWO_SIZES, AllocatorSettings(40 * MB))
    assert (peaks.reserved, peaks.releases) == (40 * MB, 1)
    assert runs_within(TWO_SIZES, 40 * MB, AllocatorSettings())
    assert not runs_within(TWO_SIZES, 40 * MB - 1, AllocatorSettings())
    with pytest.raises(OutOfCardMemory):
        replay(TWO_SIZES, AllocatorSettings(40 * MB - 1))


def test_the_least_limit() -> None:
    assert 40 * MB <= least_limit(TWO_SIZES) <= 42 * MB
    assert least_limit(loop((0, 30), (0, 0))) == 30 * MB
    assert 40 * MB <= least_limit(TWO_SIZES, AllocatorSettings(expandable_segments=True)) <= 42 * MB


def test_an_expandable_segment_holds_both_sizes() -> None:
    assert replay(TWO_SIZES, AllocatorSettings(expandable_segments=True)).reserved == 40 * MB
