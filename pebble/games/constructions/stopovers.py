"""Reversible strategies by stopovers, on any graph: which nodes are kept, and since when.

A plan is a list of nodes, the targets among them. Each is reached in turn: the part of its cone
that is not on the board is placed, and all of it but the node is taken back. In the end the nodes
that are no targets are taken back in the same way, the last one first. A plan costs moves where
cones overlap and pebbles for what it keeps, and annealing looks for the best one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from math import exp

from pebble.games.board import Board
from pebble.games.moves import Move, place, remove

_ROUNDS = 6000
_EXCESS = 1000
"""Moves that a pebble above the limit is as bad as."""
_HOT, _COLD = 200.0, 2.0
_PARTS = (1.0, 0.8, 0.65)
"""Of the pebbles there are: what a plan leaves, the strategy made from it can use."""


def stopover_strategies(
    board: Board,
    order: Sequence[int],
    pebbles: int,
    *,
    deadline: float,
    seed: int = 0,
    rounds: int = _ROUNDS,
) -> Iterator[tuple[Move, ...]]:
    """Strategies that aim at so many pebbles, or at parts of them, with few moves.

    Parameters
    ----------
    order : sequence of int
        The targets in the order to begin with.
    pebbles : int
        A limit to aim at; with 0, plans of as few pebbles as can be.
    deadline : float
        Value of ``time.monotonic()`` to stop at.
    rounds : int
        Plans that annealing tries for each strategy.

    Examples
    --------
    >>> from pebble.games import Reversible, make_graph, play
    >>> board = Board.of(make_graph("pyramid:6"))
    >>> makes = stopover_strategies(board, board.targets, 16, deadline=time.monotonic() + 60)
    >>> min(play(Reversible(), board, moves).peak for moves in makes) <= 16
    True
    """
    planner = _Planner(board)
    for number, part in enumerate(_PARTS if pebbles else (0.0,)):
        if time.monotonic() > deadline:
            return
        rng = random.Random(seed + number)
        yield planner.moves(planner.best(order, int(pebbles * part), deadline, rng, rounds))


class _Planner:
    """Plans on one board; sets of nodes are bits of integers."""

    def __init__(self, board: Board) -> None:
        self.board, self.targets = board, frozenset(board.targets)
        self.reads = [sum(1 << u for u in reads) for reads in board.preds]
        self.inner = [v for v in range(len(board)) if v not in self.targets]

    def cone(self, v: int, on: int) -> int:
        """What must be placed to place v."""
        todo, cone = 1 << v, 0
        while todo:
            u = todo.bit_length() - 1
            todo ^= 1 << u
            cone |= 1 << u
            todo |= self.reads[u] & ~on
        return cone

    def worth(self, plan: Sequence[int], pebbles: int) -> int:
        """Moves of a plan, and a price for each pebble above the limit."""
        on, size, moves, peak = 0, 0, 0, 0
        for v in plan:
            if on >> v & 1:
                return 1 << 60
            cone = self.cone(v, on).bit_count()
            moves, peak = moves + 2 * cone - 1, max(peak, size + cone)
            on, size = on | 1 << v, size + 1
        for v in reversed(plan):
            if v not in self.targets:
                on, size = on ^ 1 << v, size - 1
                cone = self.cone(v, on).bit_count()
                moves, peak = moves + 2 * cone - 1, max(peak, size + cone)
        return moves + _EXCESS * max(0, peak - pebbles)

    def best(
        self,
        order: Sequence[int],
        pebbles: int,
        deadline: float,
        rng: random.Random,
        rounds: int,
    ) -> list[int]:
        """The best plan that annealing finds."""
        plan = best = list(order)
        worth = least = self.worth(plan, pebbles)
        for number in range(rounds):
            if number % 100 == 0 and time.monotonic() > deadline:
                break
            heat = _COLD + _HOT * (1 - number / rounds)
            trial = self.varied(plan, rng)
            new = self.worth(trial, pebbles)
            if new <= worth or rng.random() < exp((worth - new) / heat):
                plan, worth = trial, new
                if worth < least:
                    best, least = plan, worth
        return best

    def varied(self, plan: list[int], rng: random.Random) -> list[int]:
        """A plan with a stopover more, one less, one exchanged for a neighbour, or one moved."""
        trial, kind = plan.copy(), rng.random()
        stopovers = [v for v in plan if v not in self.targets]
        if kind < 0.35 and self.inner:
            trial.insert(rng.randint(0, len(plan)), rng.choice(self.inner))
        elif kind < 0.55 and stopovers:
            trial.remove(rng.choice(stopovers))
        elif kind < 0.7 and stopovers:
            old = rng.choice(stopovers)
            near = [*self.board.preds[old], *self.board.succs[old]]
            near = [v for v in near if v not in self.targets]
            trial[trial.index(old)] = rng.choice(near) if near else old
        else:
            v = trial.pop(rng.randrange(len(plan)))
            trial.insert(rng.randint(0, len(trial)), v)
        return trial

    def moves(self, plan: Sequence[int]) -> tuple[Move, ...]:
        """The strategy of a plan."""
        on, moves = 0, list[Move]()
        for v in plan:
            cone = self.nodes(self.cone(v, on))
            moves += [*map(place, cone), *(remove(u) for u in reversed(cone) if u != v)]
            on |= 1 << v
        for v in reversed(plan):
            if v not in self.targets:
                on ^= 1 << v
                cone = self.nodes(self.cone(v, on))
                moves += [*(place(u) for u in cone if u != v), *map(remove, reversed(cone))]
        return tuple(moves)

    def nodes(self, mask: int) -> list[int]:
        """The nodes of a set, in a topological order."""
        return [v for v in range(len(self.board)) if mask >> v & 1]
