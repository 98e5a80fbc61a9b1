"""Expandable segments: one segment a pool, backed by memory page by page where it is needed.

Source: c10/cuda/CUDACachingAllocator.cpp (`find_expandable_block`, `map_block`,
`try_allocate_expandable_block`, `unmap_block`).
"""

from __future__ import annotations

from collections.abc import Callable

from pebble.allocator.blocks import Block, Pool
from pebble.allocator.rules import page_bytes

ADDRESS_SPACE_BYTES = 2**50
"""Of one segment: more than any card has, so that none is ever used up."""

Reserve = Callable[[int], bool]
"""Takes so many bytes of the card, or says that it cannot."""


def growing_block(pool: Pool, size: int, new_address: Callable[[int], int]) -> Block:
    """The lowest place of a pool that can grow to a size: unmapped, or free with unmapped behind.

    `new_address` gives the place of a segment where the pool has none yet.
    """
    for block in pool.unmapped():
        start = block.before if block.before is not None and not block.before.taken else block
        if _room_from(start) >= size:
            return start
    block = Block(new_address(ADDRESS_SPACE_BYTES), ADDRESS_SPACE_BYTES, pool, expandable=True)
    block.mapped = False
    pool.add(block)
    return block


def grow(pool: Pool, block: Block, size: int, reserve: Reserve) -> Block | None:
    """A free block of at least a size, taken out of the pool; None if the card has no more.

    What has been mapped before the card ran out stays mapped.
    """
    if not block.mapped and not _map(pool, block, min(block.size, size), reserve):
        return None
    while block.size < size:
        more = block.after
        assert more is not None, "the place had room for the request"
        if not _map(pool, more, min(size - block.size, more.size), reserve):
            return None
        block = more
    pool.remove(block)
    return block


def unmap(pool: Pool, block: Block) -> int:
    """Give back the whole pages inside a free block; the bytes of them."""
    page = page_bytes(pool.small)
    start = -(-block.address // page) * page
    end = (block.address + block.size) // page * page
    if start >= end:
        return 0
    pool.remove(block)
    if start > block.address:
        rest = block.cut(start - block.address)
        pool.add(block)
        block = rest
    if block.size > end - start:
        pool.add(block.cut(end - start))
    block.mapped = False
    pool.merge(block)
    if block.is_piece:
        pool.add(block)  # else the whole segment is empty, and goes
    return end - start


def _room_from(block: Block | None) -> int:
    size = 0
    while block is not None and not block.taken:
        size += block.size
        block = block.after
    return size


def _map(pool: Pool, block: Block, size: int, reserve: Reserve) -> bool:
    """Put pages behind the beginning of an unmapped block and add it to the free ones."""
    page = page_bytes(pool.small)
    size = -(-size // page) * page
    if not reserve(size):
        return False
    pool.remove(block)
    if size < block.size:
        rest = block.cut(size)
        rest.mapped = False
        pool.add(rest)
    block.mapped = True
    pool.merge(block)
    pool.add(block)
    return True
