"""Blocks of device memory and the pools that hold those which are free."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator


class Block:
    """A piece of a segment.

    Attributes
    ----------
    address, size, requested : int
        Bytes; `requested` is what the tensor in it asked for.
    pool : Pool
    before, after : Block or None
        Neighbours in the segment.
    taken : bool
        Whether a tensor is in it.
    mapped : bool
        Whether memory stands behind it; only in an expandable segment may it not.
    expandable : bool
        Whether it is in an expandable segment.
    born : int
        Searches of the pool before it became free; for garbage collection.
    """

    __slots__ = (
        "address", "after", "before", "born", "expandable", "mapped", "pool", "requested", "size",
        "taken",
    )  # fmt: skip

    def __init__(self, address: int, size: int, pool: Pool, *, expandable: bool = False) -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.requested = 0
        self.before: Block | None = None
        self.after: Block | None = None
        self.taken = False
        self.mapped = True
        self.expandable = expandable
        self.born = 0

    @property
    def is_piece(self) -> bool:
        """Whether it has been split off a segment that has other blocks."""
        return self.before is not None or self.after is not None

    def cut(self, size: int) -> Block:
        """Keep the first `size` bytes; the rest is a new block behind it, in no list yet."""
        rest = Block(self.address + size, self.size - size, self.pool, expandable=self.expandable)
        rest.before, rest.after = self, self.after
        if self.after is not None:
            self.after.before = rest
        self.after, self.size = rest, size
        return rest


class _Ordered:
    """Blocks by size and address."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, int]] = []
        self.found: dict[int, Block] = {}  # by address

    def add(self, block: Block) -> None:
        insort(self.keys, (block.size, block.address))
        self.found[block.address] = block

    def remove(self, block: Block) -> None:
        del self.keys[bisect_left(self.keys, (block.size, block.address))]
        del self.found[block.address]


class Pool:
    """The free blocks of one kind of segments.

    Attributes
    ----------
    small : bool
    searches : int
        How often a block has been looked for.
    """

    def __init__(self, small: bool) -> None:
        self.small = small
        self.searches = 0
        self._free = _Ordered()
        self._unmapped: dict[int, Block] = {}

    def __iter__(self) -> Iterator[Block]:
        """The free blocks, small ones first; the pool may change meanwhile."""
        return iter([self._free.found[address] for _, address in self._free.keys])

    def unmapped(self) -> list[Block]:
        """Parts of expandable segments without memory behind them, by address."""
        return [block for _, block in sorted(self._unmapped.items())]

    def add(self, block: Block) -> None:
        """Take in a block that is free or unmapped."""
        if block.mapped:
            block.born = self.searches
            self._free.add(block)
        else:
            self._unmapped[block.address] = block

    def remove(self, block: Block) -> None:
        """Take out a block that is free or unmapped."""
        if block.mapped:
            self._free.remove(block)
        else:
            del self._unmapped[block.address]

    def best_fit(self, size: int) -> Block | None:
        """Take out the smallest free block of at least this size, the lowest of equals.

        The free end of an expandable segment counts with all that it can grow to.
        """
        self.searches += 1
        keys, found = self._free.keys, self._free.found
        i = bisect_left(keys, (size, 0))
        if i == len(keys):
            return None
        best = found[keys[i][1]]
        while best.expandable and i + 1 < len(keys):
            i += 1
            other = found[keys[i][1]]
            if _reach(other) >= _reach(best):
                break
            best = other
        self.remove(best)
        return best

    def merge(self, block: Block) -> None:
        """Join a block, which is in no list, with free neighbours of its kind."""
        before, after = block.before, block.after
        if before is not None and not before.taken and before.mapped == block.mapped:
            self.remove(before)
            block.address, block.before = before.address, before.before
            block.size += before.size
            if block.before is not None:
                block.before.after = block
        if after is not None and not after.taken and after.mapped == block.mapped:
            self.remove(after)
            block.size += after.size
            block.after = after.after
            if block.after is not None:
                block.after.before = block


def _reach(block: Block) -> int:
    after = block.after
    return block.size + (after.size if after is not None and not after.mapped else 0)
