"""The caching allocator's rules, each with an example worked out by hand from the source."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from pebble.allocator.blocks import Block
from pebble.allocator.caching import CachingAllocator, OutOfCardMemory
from pebble.allocator.rules import AllocatorSettings

MB = 2**20


def limited(megabytes: int, **settings: object) -> CachingAllocator:
    return CachingAllocator(AllocatorSettings(megabytes * MB, **settings))  # type: ignore[arg-type]


def test_small_tensors_share_a_segment_of_two_megabytes() -> None:
    card = CachingAllocator()
    for _ in range(4):
        card.allocate(MB // 2)
    assert card.reserved == 2 * MB
    card.allocate(1)
    assert (card.requested, card.allocated, card.reserved) == (2 * MB + 1, 2 * MB + 512, 4 * MB)


def test_tensors_below_ten_megabytes_share_a_segment_of_twenty() -> None:
    card = CachingAllocator()
    first = card.allocate(9 * MB)
    second = card.allocate(9 * MB)
    assert card.reserved == 20 * MB
    assert second.address == first.address + 9 * MB
    card.allocate(3 * MB)  # 2 MB are left
    assert card.reserved == 40 * MB


def test_a_remainder_of_one_megabyte_stays_with_its_block() -> None:
    card = CachingAllocator()
    block = card.allocate(11 * MB)  # in a segment of 12 MB
    assert (block.size, card.allocated, card.reserved) == (12 * MB, 12 * MB, 12 * MB)
    card = CachingAllocator()
    block = card.allocate(11 * MB - 512)  # a byte block more is left: split off
    assert (block.size, card.allocated, card.reserved) == (11 * MB - 512, 11 * MB - 512, 12 * MB)


def test_the_smallest_block_that_fits_is_taken() -> None:
    card = CachingAllocator()
    wide, middle, narrow = (card.allocate(size * MB) for size in (16, 14, 12))
    for block in (wide, middle, narrow):
        card.free(block)
    assert card.allocate(13 * MB).address == middle.address
    assert card.allocate(13 * MB).address == wide.address
    assert card.reserved == (16 + 14 + 12) * MB


def test_of_equal_blocks_the_lowest_is_taken() -> None:
    card = CachingAllocator()
    first, second = card.allocate(12 * MB), card.allocate(12 * MB)
    card.free(second)
    card.free(first)
    assert card.allocate(12 * MB).address == first.address


def test_free_neighbours_become_one_block() -> None:
    card = CachingAllocator()
    a, b, c = (card.allocate(5 * MB) for _ in range(3))  # 5 + 5 + 5 + 5 free, of 20 MB
    card.free(a)
    card.free(c)  # joins the 5 MB behind it
    assert sorted(block.size for block in card.large) == [5 * MB, 10 * MB]
    card.free(b)
    assert [block.size for block in card.large] == [20 * MB]
    assert card.allocate(20 * MB).address == a.address
    assert card.reserved == 20 * MB


def test_blocks_of_two_segments_do_not_become_one() -> None:
    card = CachingAllocator()
    for block in [card.allocate(12 * MB) for _ in range(2)]:
        card.free(block)
    card.allocate(24 * MB)
    assert card.reserved == 48 * MB


def test_small_and_large_tensors_do_not_share() -> None:
    card = CachingAllocator()
    card.free(card.allocate(12 * MB))
    card.allocate(MB)
    assert card.reserved == 14 * MB


def test_at_the_limit_unused_segments_are_given_back() -> None:
    card = limited(30)
    card.free(card.allocate(12 * MB))
    card.free(card.allocate(16 * MB))
    card.allocate(20 * MB)
    assert (card.reserved, card.reserved_peak, card.releases) == (20 * MB, 28 * MB, 2)


def test_a_segment_in_use_is_not_given_back() -> None:
    card = limited(30)
    a = card.allocate(5 * MB)
    card.allocate(5 * MB)
    card.free(a)  # 15 of the 20 MB are free, but in pieces
    with pytest.raises(OutOfCardMemory, match=r"12,582,912 bytes: 5,242,880 are allocated"):
        card.allocate(12 * MB)
    assert card.reserved == 20 * MB


def test_the_limit_itself_may_be_reserved() -> None:
    limited(12).allocate(12 * MB)
    with pytest.raises(OutOfCardMemory):
        limited(12).allocate(12 * MB + 1)


def test_emptying_the_cache() -> None:
    card = CachingAllocator()
    held = card.allocate(1)
    card.free(card.allocate(30 * MB))
    card.release_cached()
    assert card.reserved == 2 * MB
    card.free(held)
    card.release_cached()
    assert (card.reserved, card.reserved_peak) == (0, 32 * MB)


# -- expandable segments -------------------------------------------------------------------------


def expandable(limit: int | None = None) -> CachingAllocator:
    return CachingAllocator(AllocatorSettings(limit, expandable_segments=True))


def test_an_expandable_segment_grows_by_pages() -> None:
    card = expandable()
    card.allocate(12 * MB)
    assert card.reserved == 20 * MB
    card.allocate(12 * MB)  # 8 MB are mapped and free: one page more
    assert card.reserved == 40 * MB
    card.allocate(1)
    assert card.reserved == 42 * MB


def test_blocks_of_an_expandable_segment_lie_side_by_side() -> None:
    card = expandable()
    for block in [card.allocate(12 * MB) for _ in range(2)]:
        card.free(block)
    card.allocate(24 * MB)
    assert card.reserved == 40 * MB


def test_in_an_expandable_segment_every_remainder_is_split_off() -> None:
    card = expandable()
    block = card.allocate(20 * MB - 512)
    assert (block.size, card.allocated) == (20 * MB - 512, 20 * MB - 512)


def test_the_end_of_an_expandable_segment_counts_with_what_it_can_grow_to() -> None:
    card = expandable()
    a = card.allocate(16 * MB)
    card.allocate(12 * MB)  # behind it 12 MB are mapped and free, at the end
    card.free(a)
    assert card.allocate(10 * MB).address == a.address  # though the end fits better


def test_at_the_limit_whole_free_pages_are_given_back_and_filled_again() -> None:
    card = expandable(62 * MB)
    a = card.allocate(40 * MB)
    b = card.allocate(20 * MB)
    card.free(a)
    card.allocate(2 * MB)  # in the first page
    assert card.reserved == 60 * MB
    small = [card.allocate(MB) for _ in range(3)]  # 2 MB, then no room for 2 MB more
    assert (card.reserved, card.releases) == (44 * MB, 1)  # the second page went
    for block in small:
        card.free(block)
    again = card.allocate(18 * MB + 512)  # the free end of the first page grows into the gap
    assert (again.address, card.reserved) == (a.address + 2 * MB, 60 * MB)  # small pages went
    assert b.address == a.address + 40 * MB


def test_an_emptied_expandable_segment_begins_anew() -> None:
    card = expandable()
    card.free(card.allocate(50 * MB))
    card.release_cached()
    assert card.reserved == 0
    card.allocate(50 * MB)
    assert card.reserved == 60 * MB


# -- garbage collection --------------------------------------------------------------------------


def test_above_the_threshold_whole_segments_are_collected() -> None:
    card = limited(100, garbage_threshold=0.5)
    split, whole = card.allocate(30 * MB), card.allocate(24 * MB)
    card.free(split)
    card.allocate(12 * MB)  # the rest of its segment is a piece
    card.free(whole)
    card.allocate(26 * MB)  # 54 are reserved
    assert (card.reserved, card.releases) == (56 * MB, 1)


def test_the_oldest_garbage_goes_first() -> None:
    card = limited(100, garbage_threshold=0.6)
    old, young = card.allocate(30 * MB), card.allocate(24 * MB)
    card.free(old)
    card.allocate(31 * MB)
    card.free(young)
    card.allocate(32 * MB)  # 86 are reserved: 26 are to go; the ages are 2 and 1
    assert (card.reserved, card.releases) == (88 * MB, 1)
    assert [block.size for block in card.large] == [24 * MB]


def test_without_a_threshold_nothing_is_collected() -> None:
    card = limited(100)
    card.free(card.allocate(60 * MB))
    card.allocate(12 * MB)
    card.allocate(30 * MB)
    assert card.reserved == 60 * MB


# -- anything ------------------------------------------------------------------------------------


def chains(card: CachingAllocator, held: list[Block]) -> list[list[Block]]:
    """The blocks of every segment that can be reached, in the order of their addresses."""
    found: dict[int, list[Block]] = {}
    for block in [*held, *card.small, *card.large]:
        while block.before is not None:
            block = block.before
        chain = found.setdefault(id(block), [])
        if not chain:
            current: Block | None = block
            while current is not None:
                chain.append(current)
                current = current.after
    return list(found.values())


@pytest.mark.parametrize("settings", [
    AllocatorSettings(),
    AllocatorSettings(expandable_segments=True),
    AllocatorSettings(150 * MB),
    AllocatorSettings(150 * MB, expandable_segments=True),
    AllocatorSettings(150 * MB, garbage_threshold=0.6),
])  # fmt: skip
@pytest.mark.parametrize("seed", range(4))
def test_blocks_tile_their_segments(settings: AllocatorSettings, seed: int) -> None:
    rng, card, held = random.Random(seed), CachingAllocator(settings), []
    for _ in range(600):
        if held and rng.random() < 0.48:
            card.free(held.pop(rng.randrange(len(held))))
        else:
            size = rng.choice([rng.randint(1, 4000), rng.randint(1, MB), rng.randint(1, 30 * MB)])
            try:
                held.append(card.allocate(size))
            except OutOfCardMemory:
                held = _freed(card, held)
    segments = chains(card, held)
    blocks = [block for segment in segments for block in segment]
    for segment in segments:
        for left, right in pairwise(segment):
            assert left.address + left.size == right.address
            assert left.taken or right.taken or left.mapped != right.mapped, "not joined"
    assert card.requested == sum(b.requested for b in held)
    assert card.allocated == sum(b.size for b in held)
    assert card.reserved == sum(b.size for b in blocks if b.mapped)
    assert {id(b) for b in blocks if b.taken} == {id(b) for b in held}
    free = {id(b) for b in blocks if b.mapped and not b.taken}
    assert free == {id(b) for b in [*card.small, *card.large]}


def _freed(card: CachingAllocator, held: list[Block]) -> list[Block]:
    for block in held[::2]:
        card.free(block)
    return held[1::2]
