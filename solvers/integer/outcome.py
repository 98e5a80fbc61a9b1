"""What an engine says of rows: a solution, a bound, a proof that there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What an engine found.

    Attributes
    ----------
    true : list of bool or None
        ``true[literal]`` for every literal of a solution.
    bound : int
        Proved lower bound on the objective; 0 from an engine that cannot prove.
    impossible : bool
        Proved: the rows have no solution.
    """

    true: list[bool] | None
    bound: int = 0
    impossible: bool = False
