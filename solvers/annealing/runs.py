"""A cooling run: what it begins from and is told, and what it has found."""

from __future__ import annotations

from dataclasses import dataclass

Order = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cooling:
    """The parameters of a run.

    Attributes
    ----------
    trials : int
    hot, cold : float
        Temperature at the start and at the end, in units of the cost of running every op once.
    penalty : float
        What an excess of the whole budget during one step weighs, in the same unit.
    adds, removes, chain : int
        Chances, of 256: that a trial adds an execution, that it removes one, and that an add goes
        on to what the added one reads.
    seed : int
    thrift : float
        Weight of the cost; 1, or little where the peak is to be least.
    drop : float
        Above 0: make the peak least, lowering the budget by at least this fraction whenever it
        is met.
    budget : int, optional
        To begin with, instead of that of the problem.
    """

    trials: int
    hot: float
    cold: float
    penalty: float
    adds: int
    removes: int
    chain: int
    seed: int
    thrift: float = 1.0
    drop: float = 0.0
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has found.

    Attributes
    ----------
    best : the best order within the budget, or None
    last : the order it ended with, which may be over the budget
    trials : how many were made
    """

    best: Order | None
    last: Order
    trials: int
