"""What the step models share: grids of variables, and constraints that several games have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

from pebble.games.board import Board
from pebble.games.position import Game

Grid = list[list[Any]]
"""Variables by time and node."""


class StepModel(ABC):
    """Variables and constraints of one game; `costs` are (weight, variable) pairs.

    Parameters
    ----------
    pebbles : int
        The most weight that may be on the board.
    steps : int
        The most moves that count.
    """

    def __init__(self, game: Game, board: Board, pebbles: int, steps: int) -> None:
        from ortools.sat.python import cp_model

        self.model = cp_model.CpModel()
        self.board, self.pebbles, self.steps = board, pebbles, steps
        self.plain = board if game.weighted else board.unweighted()
        self.nodes, self.times = range(len(board)), range(1, steps + 1)
        self.costs: list[tuple[int, Any]] = []
        self.on = self.grid("on")
        self.inputs = self.there_at_first()
        for v in self.nodes:
            self.fix(self.on[0][v], v in self.inputs)

    def there_at_first(self) -> tuple[int, ...]:
        """Nodes that are on the board from the start and count as no pebbles."""
        return ()

    @abstractmethod
    def moves_at(self, t: int, value: Any) -> list[Any]:
        """The moves of a step; `value` reads a variable that is true or false."""

    def strategy(self, value: Any) -> tuple[Any, ...]:
        """The moves of a solution."""
        return tuple(move for t in self.times for move in self.moves_at(t, value))

    def changed(self, t: int, value: Any) -> tuple[list[int], list[int]]:
        """The nodes whose pebbles come in a step, and those whose pebbles go."""
        before, after = self.on[t - 1], self.on[t]
        new = [v for v in self.nodes if value(after[v]) and not value(before[v])]
        gone = [v for v in self.nodes if value(before[v]) and not value(after[v])]
        return new, gone

    def grid(self, name: str) -> Grid:
        """A variable for each node at each time, 0 included."""
        return [
            [self.model.new_bool_var(f"{name}{t}_{v}") for v in self.nodes]
            for t in range(self.steps + 1)
        ]

    def fix(self, var: Any, value: bool) -> None:
        """A variable has this value."""
        self.model.add(var == int(value))

    def room(self, *layers: Grid) -> None:
        """There is room for what lies on the board."""
        # [Constraint] the pebbles on the board weigh at most so much at any time
        for t in range(self.steps + 1):
            weights = [self.plain.sizes[v] * grid[t][v] for grid in layers for v in self.nodes]
            self.model.add(sum(weights) <= self.pebbles + len(self.inputs))

    def changes(self, grid: Grid, name: str) -> Grid:
        """Variables that say where a grid changes from one step to the next."""
        change = self.grid(name)
        for t in self.times:
            for v in self.nodes:
                self.model.add_bool_xor([grid[t - 1][v], grid[t][v], change[t][v], True])
        return change

    def one_a_step(self, *layers: Grid) -> None:
        """There is one move a step; each layer is a kind of move."""
        # [Constraint] one move a step, and the idle steps come last
        busy = []
        for t in self.times:
            moves = [grid[t][v] for grid in layers for v in self.nodes]
            self.model.add_at_most_one(moves)
            active = self.model.new_bool_var(f"busy{t}")
            self.model.add(sum(moves) == active)
            busy.append(active)
        for earlier, later in pairwise(busy):
            self.model.add_implication(later, earlier)

    def in_order(self, moved: Grid, there: Grid) -> None:
        """Of strategies that differ by swaps of moves on nodes that do not touch, one is enough.

        `moved` says which node a step changes, and `there` whether it carries a pebble after it.
        """
        for t in self.times[:-1]:
            for v in self.nodes:
                placed, left = (moved[t][v], there[t][v]), (moved[t][v], ~there[t][v])
                if v not in self.board.targets:
                    # [Constraint] nothing is placed for nothing
                    self.model.add_bool_or([~moved[t][v], ~moved[t + 1][v]])
                for w in self.nodes:
                    if w == v or w in self.board.preds[v] or v in self.board.preds[w]:
                        continue
                    then_placed = (moved[t + 1][w], there[t + 1][w])
                    then_left = (moved[t + 1][w], ~there[t + 1][w])
                    # [Constraint] removals before placements, each in the order of the nodes
                    self._not_both(placed, then_left)
                    if w < v:
                        self._not_both(placed, then_placed)
                        self._not_both(left, then_left)

    def _not_both(self, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
        self.model.add_bool_or([~literal for literal in (*first, *second)])

    def pay(self, grid: Grid, weight: int = 1, *, sizes: bool = False) -> None:
        """Moves cost the nodes' costs, or their sizes, so many times."""
        each = self.plain.sizes if sizes else self.plain.costs
        for t in self.times:
            self.costs += [(weight * each[v], grid[t][v]) for v in self.nodes]

    def visit(self, *layers: Grid) -> None:
        """The targets are visited."""
        # [Constraint] each target carries a pebble at some time
        for v in self.board.targets:
            self.model.add_bool_or([grid[t][v] for grid in layers for t in self.times])

    def end(self, grid: Grid, nodes: Any) -> None:
        """The board ends with exactly these nodes in a grid."""
        # [Constraint] at the end there are pebbles on exactly these nodes
        for v in self.nodes:
            self.fix(grid[self.steps][v], v in nodes)
