"""Checkpointing of an adjoint chain over levels of storage: least times as small recursions.

A chain of `length` l has l + 1 adjoint steps: forward steps F_0 .. F_(l-1) take state x_i to
x_(i+1), adjoint step B_i needs x_i in hand, and B_l .. B_0 run in this order. A state in hand may
be written to a slot of some level and read back later; a forward step loses the state before it.
The value is the time of all forward and adjoint steps, writes and reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

from pebble.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class StorageLevel:
    """One level of storage.

    Parameters
    ----------
    slots : int or None
        States that fit; None: any number.
    write, read : float
        Time to write a state there, and to read it back.
    """

    slots: int | None
    write: float = 0
    read: float = 0

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 0:
            raise InvalidArgument(f"A level of storage has {self.slots} slots; 0 is the least.")
        if self.write < 0 or self.read < 0:
            raise InvalidArgument("Writing and reading take a time of 0 or more.")


def adjoint_time(
    length: int, levels: Sequence[StorageLevel], *, forward: float = 1, backward: float = 1
) -> float:
    """Least time to reverse a chain with levels of storage, the fastest first.

    Revolve (Griewank and Walther 2000) with one level, Disk-Revolve (Aupy, Herrmann, Hovland and
    Robert 2016) with a second one without limit, H-Revolve (Herrmann and Pallez 2020) in general.

    Parameters
    ----------
    length : int
        Forward steps that matter; the adjoint has one step more.
    levels : sequence of StorageLevel
    forward, backward : float
        Time of one forward and of one adjoint step.

    Returns
    -------
    float
        ``inf`` if the slots do not suffice.

    Notes
    -----
    Two recursions over the levels up to k, with m free slots on level k and all below it free:
    with the state in hand only, use the levels below, or write it on level k; with the state on
    level k, use the levels below for all that is left, or go j steps on, reverse what lies
    beyond, read the state and reverse the j - 1 steps before. So a state on a faster level never
    lies before one on a slower level, which costs nothing as long as the levels get slower; the
    tests compare with a search over all schedules.

    Examples
    --------
    Ten adjoint steps, and Revolve's 15 forward steps:

    >>> adjoint_time(9, [StorageLevel(slots=3)])
    25
    >>> adjoint_time(6, [StorageLevel(slots=1), StorageLevel(slots=1, write=2, read=2)])
    23
    """
    _check_chain(length)
    rooms = [length if level.slots is None else min(level.slots, length) for level in levels]
    spent = [level.slots is not None for level in levels]

    @cache
    def below(k: int, left: int) -> float:
        """With the state in hand and the levels below k, all of them free."""
        if k == 0:
            return backward if left == 0 else inf
        return in_hand(k - 1, left, rooms[k - 1])

    @cache
    def in_hand(k: int, left: int, room: int) -> float:
        best = below(k, left)
        if room > 0:
            best = min(best, levels[k].write + stored(k, left, room - spent[k]))
        return best

    @cache
    def stored(k: int, left: int, room: int) -> float:
        best = below(k, left)
        for j in range(1, left + 1):
            beyond = in_hand(k, left - j, room)
            best = min(best, j * forward + beyond + levels[k].read + stored(k, j - 1, room))
        return best

    for left in range(length):  # short chains first: the recursion stays shallow
        below(len(levels), left)
    return below(len(levels), length)


def read_once_time(
    length: int,
    memory: StorageLevel,
    disk: StorageLevel,
    *,
    forward: float = 1,
    backward: float = 1,
) -> float:
    """Least time with memory and an unlimited disk from which every state is read once.

    The one-read schedules of Disk-Revolve (Aupy et al. 2016); see `adjoint_time` for the rest.

    Examples
    --------
    >>> memory, disk = StorageLevel(slots=1), StorageLevel(slots=None, write=1, read=1)
    >>> read_once_time(6, memory, disk), adjoint_time(6, [memory, disk])
    (20, 20)
    """
    _check_chain(length)

    @cache
    def in_memory(left: int) -> float:
        return adjoint_time(left, [memory], forward=forward, backward=backward)

    @cache
    def in_hand(left: int) -> float:
        return min(
            [in_memory(left)]
            + [
                disk.write + j * forward + in_hand(left - j) + disk.read + in_memory(j - 1)
                for j in range(1, left + 1)
            ]
        )

    return in_hand(length)


def _check_chain(length: int) -> None:
    if length < 0:
        raise InvalidArgument(f"The chain has length {length}; 0 is the least.")
