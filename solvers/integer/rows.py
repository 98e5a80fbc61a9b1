"""Linear rows over binary variables, which no engine's type enters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from pebble.problem import Problem

FALSE, TRUE = 0, 1


@dataclass
class Rows:
    """Linear rows over binary variables; literals 0 and 1 are the constants.

    Attributes
    ----------
    n_variables : int
        Variables are the literals 2, 3, ... ``n_variables + 1``.
    rows : list of (literals, coefficients, upper bound)
    impossible : bool
        A row without variables is broken.
    """

    n_variables: int = 0
    rows: list[tuple[list[int], list[int], int]] = field(default_factory=list)
    impossible: bool = False

    def variable(self) -> int:
        """A new binary variable."""
        self.n_variables += 1
        return self.n_variables + 1

    def add(self, terms: Iterable[tuple[int, int]], upper: int) -> None:
        """Sum of coefficient x literal is at most `upper`; rows that always hold are left out."""
        total: dict[int, int] = {}
        for coefficient, literal in terms:
            if literal == TRUE:
                upper -= coefficient
            elif literal != FALSE:
                total[literal] = total.get(literal, 0) + coefficient
        most = sum(c for c in total.values() if c > 0)
        if most <= upper:
            return
        if not total or sum(c for c in total.values() if c < 0) > upper:
            self.impossible = True
        self.rows.append((list(total), list(total.values()), upper))

    def implies(self, a: int, *b: int) -> None:
        """If `a` holds, one of `b` does."""
        self.add([(1, a), *((-1, literal) for literal in b)], 0)


def divisors(problem: Problem) -> tuple[int, int]:
    """Greatest common divisors of all sizes and workspaces, and of the costs that may repeat."""
    a = problem.graph.arrays
    byte = math.gcd(*a.size.tolist(), *a.workspace.tolist())
    return byte or 1, math.gcd(*a.cost[problem.may_repeat].tolist()) or 1
