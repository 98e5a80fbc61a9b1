"""The caching allocator of torch on CUDA, simulated for one stream.

Source: c10/cuda/CUDACachingAllocator.cpp (`malloc`, `alloc_block`, `free_block`,
`release_cached_blocks`, `garbage_collect_cached_blocks`). Not simulated: other streams, private
pools of CUDA graphs, `max_split_size_mb` and `roundup_power2_divisions`, which are off by default.
Assumed: the driver hands out addresses in ascending order.
"""

from __future__ import annotations

from pebble.allocator.blocks import Block, Pool
from pebble.allocator.expandable import grow, growing_block, unmap
from pebble.allocator.rules import (
    LARGE_SEGMENT_BYTES,
    AllocatorSettings,
    block_bytes,
    is_small,
    is_split,
    segment_bytes,
)
from pebble.errors import PebbleError


class OutOfCardMemory(PebbleError):
    """The simulated card has no room for a request, even with all unused segments given back."""


class CachingAllocator:
    """Hands out blocks as torch's allocator on a card would.

    Parameters
    ----------
    settings : AllocatorSettings, optional

    Attributes
    ----------
    requested, allocated, reserved : int
        Bytes that tensors asked for, of the blocks that they are in, and of all segments.
    requested_peak, allocated_peak, reserved_peak : int
    releases : int
        Segments and runs of pages given back to the driver.

    Examples
    --------
    >>> card = CachingAllocator()
    >>> block = card.allocate(3 * 2**20 + 1)
    >>> card.requested, card.allocated, card.reserved
    (3145729, 3146240, 20971520)
    >>> card.free(block)
    >>> card.allocated, card.reserved
    (0, 20971520)
    """

    def __init__(self, settings: AllocatorSettings | None = None) -> None:
        self.settings = settings or AllocatorSettings()
        self.small, self.large = Pool(small=True), Pool(small=False)
        self.requested = self.allocated = self.reserved = 0
        self.requested_peak = self.allocated_peak = self.reserved_peak = 0
        self.releases = 0
        self._next_address = 0

    def allocate(self, requested: int) -> Block:
        """A block for a tensor.

        Raises
        ------
        OutOfCardMemory
        """
        size = block_bytes(requested)
        pool = self.small if is_small(size) else self.large
        block = pool.best_fit(size) or self._new_block(pool, size)
        expandable = self.settings.expandable_segments
        if is_split(block.size - size, small=pool.small, expandable_segments=expandable):
            pool.add(block.cut(size))
        block.taken, block.requested = True, requested
        self.requested += requested
        self.allocated += block.size
        self.requested_peak = max(self.requested_peak, self.requested)
        self.allocated_peak = max(self.allocated_peak, self.allocated)
        return block

    def free(self, block: Block) -> None:
        """Take a block back; free neighbours in its segment become one."""
        self.requested -= block.requested
        self.allocated -= block.size
        block.taken = False
        block.pool.merge(block)
        block.pool.add(block)

    def release_cached(self) -> None:
        """Give back all segments without a tensor, as `torch.cuda.empty_cache` does."""
        for pool in (self.large, self.small):
            for block in pool:
                if block.expandable:
                    self._given_back(unmap(pool, block))
                elif not block.is_piece:
                    self._release(block)

    # -- segments ------------------------------------------------------------------------------

    def _new_block(self, pool: Pool, size: int) -> Block:
        self._collect_garbage()
        block = self._segment(pool, size)
        if block is None:
            self.release_cached()
            block = self._segment(pool, size)
        if block is None:
            raise OutOfCardMemory(
                f"No room for {size:,} bytes: {self.allocated:,} are allocated and "
                f"{self.reserved:,} reserved of {self.settings.limit_bytes:,}."
            )
        return block

    def _segment(self, pool: Pool, size: int) -> Block | None:
        """A block in a new segment, or at the end of an expandable one; None beyond the limit."""
        wanted = segment_bytes(size)
        if not self._has_room(wanted):
            return None
        if self.settings.expandable_segments:
            return grow(pool, growing_block(pool, size, self._address), size, self._reserve)
        self._reserve(wanted)
        return Block(self._address(wanted), wanted, pool)

    def _has_room(self, size: int) -> bool:
        limit = self.settings.limit_bytes
        return limit is None or self.reserved + size <= limit

    def _reserve(self, size: int) -> bool:
        if not self._has_room(size):
            return False
        self.reserved += size
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        return True

    def _address(self, size: int) -> int:
        """Where a new segment lies: at a multiple of all pages, behind the others."""
        address = self._next_address
        self._next_address += -(-size // LARGE_SEGMENT_BYTES) * LARGE_SEGMENT_BYTES
        return address

    def _release(self, block: Block) -> None:
        block.pool.remove(block)
        self._given_back(block.size)

    def _given_back(self, size: int) -> None:
        self.reserved -= size
        self.releases += size > 0

    def _collect_garbage(self) -> None:
        """Give back unused large segments, old ones first, where much of the limit is reserved."""
        limit, share = self.settings.limit_bytes, self.settings.garbage_threshold
        if limit is None or not share or self.reserved <= int(share * limit):
            return
        target = self.reserved - int(share * limit)
        whole = [block for block in self.large if not block.is_piece]
        age = {block: self.large.searches - block.born for block in whole}
        reclaimed = 0
        while age and reclaimed < target:
            average = sum(age.values()) / len(age)
            for block in [block for block, n in age.items() if n >= average]:
                reclaimed += block.size
                del age[block]
                self._release(block)
