"""Sizes of the caching allocator: how requests are rounded, segments made and blocks split.

Source: c10/cuda/CUDACachingAllocator.cpp of PyTorch (`round_size`, `get_pool`,
`get_allocation_size`, `should_split`), and the notes on memory management of its documentation.
"""

from __future__ import annotations

from dataclasses import dataclass

from pebble.errors import InvalidArgument

MIN_BLOCK_BYTES = 512
"""Every request is rounded up to a multiple of this."""
SMALL_BYTES = 2**20
"""The largest block of the small pool."""
SMALL_SEGMENT_BYTES = 2 * 2**20
LARGE_SEGMENT_BYTES = 20 * 2**20
OWN_SEGMENT_BYTES = 10 * 2**20
"""From here on a large block has a segment made for it."""
LARGE_ROUNDING_BYTES = 2 * 2**20


@dataclass(frozen=True)
class AllocatorSettings:
    """How the caching allocator is set up; the defaults are torch's.

    Attributes
    ----------
    limit_bytes : int, optional
        The most that may be reserved: the card, or `torch.cuda.set_per_process_memory_fraction`.
    expandable_segments : bool
        One segment a pool, which grows by pages.
    garbage_threshold : float
        Share of the limit from which unused segments are given back before a new one is made; 0:
        never.

    Raises
    ------
    InvalidArgument
    """

    limit_bytes: int | None = None
    expandable_segments: bool = False
    garbage_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.garbage_threshold < 1:
            raise InvalidArgument(
                f"garbage_threshold is {self.garbage_threshold!r}; it is a share of the limit, "
                "from 0 to below 1."
            )


def block_bytes(requested: int) -> int:
    """What a request becomes.

    Examples
    --------
    >>> block_bytes(1), block_bytes(512), block_bytes(513)
    (512, 512, 1024)
    """
    return max(_rounded_up(requested, MIN_BLOCK_BYTES), MIN_BLOCK_BYTES)


def is_small(size: int) -> bool:
    """Whether a block of this size comes from the small pool."""
    return size <= SMALL_BYTES


def segment_bytes(size: int) -> int:
    """The segment that is asked of the driver where no cached block of this size is free.

    Examples
    --------
    >>> [segment_bytes(n) // 2**20 for n in (512, 2**20 + 512, 10 * 2**20, 11 * 2**20)]
    [2, 20, 10, 12]
    """
    if is_small(size):
        return SMALL_SEGMENT_BYTES
    if size < OWN_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return _rounded_up(size, LARGE_ROUNDING_BYTES)


def page_bytes(small: bool) -> int:
    """By what an expandable segment of a pool grows."""
    return SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES


def is_split(remaining: int, *, small: bool, expandable_segments: bool) -> bool:
    """Whether what a block is larger than the request becomes a free block of its own.

    Examples
    --------
    >>> is_split(512, small=True, expandable_segments=False)
    True
    >>> is_split(2**20, small=False, expandable_segments=False)
    False
    """
    if small or expandable_segments:
        return remaining >= MIN_BLOCK_BYTES
    return remaining > SMALL_BYTES


def _rounded_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
