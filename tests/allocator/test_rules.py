"""Sizes of the published source: `round_size`, `get_allocation_size`, `should_split`."""

from __future__ import annotations

import pytest

from pebble.allocator.rules import (
    AllocatorSettings,
    block_bytes,
    is_small,
    is_split,
    page_bytes,
    segment_bytes,
)
from pebble.errors import InvalidArgument

MB = 2**20


@pytest.mark.parametrize(
    ("requested", "block"),
    [(1, 512), (511, 512), (512, 512), (513, 1024), (MB, MB), (MB + 1, MB + 512)],
)
def test_requests_are_rounded_to_512_bytes(requested: int, block: int) -> None:
    assert block_bytes(requested) == block


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (512, 2 * MB),
        (MB, 2 * MB),  # the largest of the small pool
        (MB + 512, 20 * MB),
        (10 * MB - 512, 20 * MB),
        (10 * MB, 10 * MB),  # from here on a segment of its own, rounded to 2 MB
        (10 * MB + 512, 12 * MB),
        (21 * MB, 22 * MB),
    ],
)
def test_segments(size: int, segment: int) -> None:
    assert segment_bytes(size) == segment


def test_the_small_pool_ends_at_one_megabyte() -> None:
    assert is_small(MB)
    assert not is_small(MB + 512)


def test_splitting() -> None:
    assert is_split(512, small=True, expandable_segments=False)
    assert not is_split(0, small=True, expandable_segments=False)
    assert is_split(MB + 512, small=False, expandable_segments=False)
    assert not is_split(MB, small=False, expandable_segments=False)
    assert is_split(512, small=False, expandable_segments=True)


def test_pages_of_expandable_segments() -> None:
    assert page_bytes(small=True) == 2 * MB
    assert page_bytes(small=False) == 20 * MB


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_garbage_threshold_is_a_share(share: float) -> None:
    with pytest.raises(InvalidArgument, match="share of the limit"):
        AllocatorSettings(garbage_threshold=share)
