"""Covering by integers: the cheapest choice that takes enough off every moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pebble.solvers.integer.cp_sat import Effort, run_cpsat
from pebble.solvers.integer.rows import Rows


@dataclass(frozen=True)
class Cover:
    """A choice and how good it is.

    Attributes
    ----------
    chosen : tuple of int
    cost : int
    lower_bound : int
        On the cost of every choice that covers.
    """

    chosen: tuple[int, ...]
    cost: int
    lower_bound: int


def cheapest_cover(
    costs: Sequence[int],
    moments: Sequence[tuple[Mapping[int, int], int]],
    *,
    time_limit: float = 5.0,
    seed: int = 0,
) -> Cover | None:
    """The cheapest set of items that takes enough off every moment; None if there is none.

    Parameters
    ----------
    costs : sequence of int
        One an item, not negative.
    moments : sequence of (mapping, int)
        What each item takes off (or adds, if negative), and what has to go in all.

    Examples
    --------
    >>> cheapest_cover([5, 3, 4], [({0: 8, 1: 5, 2: 5}, 9), ({1: 1}, 0)]).chosen
    (1, 2)
    """
    rows = Rows()
    items = [rows.variable() for _ in costs]
    for takes, needed in moments:
        rows.add([(-size, items[i]) for i, size in takes.items() if size], -needed)
    price = [(max(cost, 1), item) for cost, item in zip(costs, items)]
    effort = Effort(time_limit, seed=seed, relax=True)
    outcome = run_cpsat(rows, price, effort)
    if outcome.true is None:
        return None
    chosen = tuple(i for i, item in enumerate(items) if outcome.true[item])
    cost = sum(costs[i] for i in chosen)
    return Cover(chosen, cost, min(outcome.bound, cost))
