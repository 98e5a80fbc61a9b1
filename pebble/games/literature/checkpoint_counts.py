"""Known counts of checkpointing on chains: binomial, by square roots, and as black pebbling."""

from __future__ import annotations

from functools import cache
from math import comb, inf, isqrt

from pebble.errors import InvalidArgument


def revolve_steps(steps: int, slots: int) -> int:
    """Forward steps of binomial checkpointing (Griewank and Walther 2000, Algorithm 799).

    Parameters
    ----------
    steps : int
        Steps to reverse.
    slots : int
        Checkpoints, the one of the initial state included.

    Examples
    --------
    >>> revolve_steps(10, 3)
    15
    """
    if steps <= 1:
        return 0
    if slots < 1:
        raise InvalidArgument("Reversing more than one step takes a checkpoint.")
    slots = min(slots, steps - 1)
    repeats = next(r for r in range(steps + 1) if comb(slots + r, slots) >= steps)
    return repeats * steps - comb(slots + repeats, repeats - 1)


def training_chain_placements(n: int, pebbles: int, *, slide: bool = False) -> int:
    """Fewest placements on the training chain of 2n nodes: n + 1 + t(n, c), n at least 2.

    Black pebbling is checkpointing: t is Revolve's count with c = pebbles - 2 slots (pebbles - 1
    with sliding). Checked up to n = 31.

    Examples
    --------
    >>> training_chain_placements(100, 20)
    281
    """
    return n + 1 + revolve_steps(n, pebbles - (1 if slide else 2))


def sqrt_segments(n: int) -> tuple[int, int]:
    """(peak, placements) of sqrt(n) checkpointing on a chain of n = s * s (Chen et al. 2016)."""
    side = isqrt(n)
    if side * side != n:
        raise InvalidArgument(f"{n} is no square.")
    return 2 * side, 3 * n - 2 * side + 1


def binomial_reach(slots: int, repeats: int) -> int:
    """Longest chain that `slots` checkpoints reverse with each step run `repeats` times at most.

    C(c + r, c): Griewank and Walther (2000).

    Examples
    --------
    >>> binomial_reach(3, 4)
    35
    """
    return comb(slots + repeats, slots)


def mixed_steps(steps: int, units: int) -> int:
    """Fewest forward steps when a unit holds either a state or what one adjoint step needs.

    Maddison (2024), "On the implementation of checkpointing with high-level algorithmic
    differentiation": storing what the adjoint of a step reads saves running that step again.

    Parameters
    ----------
    steps : int
        Steps to reverse, at least 1.
    units : int
        Units of storage, at least 1 unless there is one step; the initial state takes one while
        it is kept.

    Raises
    ------
    InvalidArgument
        If there is no step, or no way to reverse them.

    Examples
    --------
    >>> [mixed_steps(7, units) for units in (1, 2, 3, 6)]
    [27, 15, 11, 7]
    """
    if steps < 1:
        raise InvalidArgument(f"There are {steps} steps to reverse; 1 is the least.")
    if units < 1 and steps > 1:
        raise InvalidArgument("Reversing more than one step takes a unit of storage.")

    @cache
    def fewest(left: int, free: int) -> float:
        if left <= free + 1:
            return left
        if free == 0:
            return inf
        kept = 1 + fewest(left - 1, free - 1)
        again = (i + fewest(i, free) + fewest(left - i, free - 1) for i in range(1, left))
        return min(kept, *again)

    return int(fewest(steps, units))
