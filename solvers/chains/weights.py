"""What the blocks of a chain weigh and take, in slots of memory and in time."""

from __future__ import annotations

from dataclasses import dataclass

from pebble.graph import IntArray


@dataclass(frozen=True)
class Chain:
    """Blocks 0..L-1 of a forward pass and their backwards, in memory slots.

    Attributes
    ----------
    time : IntArray, shape (L,)
        Of running a block forward once.
    pass_peak : IntArray, shape (L,)
        Slots to run a block forward and drop its inside, its input included.
    carry : IntArray, shape (L, L + 1)
        ``carry[i, s]``: slots of the input of block s as far as blocks i..s-1 make it.
    extra : IntArray, shape (L, K)
        Time that option k of a block recomputes during its backward.
    hold : IntArray, shape (L, K)
        Slots that an option keeps from its forward to its backward, next input included.
    forward_peak, backward_peak : IntArray, shape (L, K)
        Slots beyond the block's input while its forward and its backward run.
    grown : IntArray, shape (L,)
        Slots by which a finished backward leaves more (or less) in memory for good.
    """

    time: IntArray
    pass_peak: IntArray
    carry: IntArray
    extra: IntArray
    hold: IntArray
    forward_peak: IntArray
    backward_peak: IntArray
    grown: IntArray

    def __len__(self) -> int:
        return len(self.time)
