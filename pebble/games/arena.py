"""The arena of a question: the part of a board that a game needs, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pebble.games.board import Board
from pebble.games.moves import Move, Step
from pebble.games.position import Game
from pebble.games.rules import Black, InPlace, Reversible


@dataclass(frozen=True)
class Arena:
    """A board cut down to what a game needs (no free inputs), and the way back."""

    judged: Game
    full: Board
    game: Game
    board: Board
    kept: tuple[int, ...]

    @classmethod
    def of(cls, game: Game, graph: Any, targets: Iterable[int | str] | None) -> Arena:
        """The arena of a game on a graph; targets as in `Board.of`."""
        full = Board.of(graph, targets)
        nodes = set(full.ancestors(full.targets))
        if isinstance(game, InPlace):
            # a gate that no target needs could give back what was overwritten: not proved useless
            nodes = set(range(len(full)))
        judged = game
        if isinstance(game, (Black, Reversible)) and game.free_inputs:
            nodes -= set(full.sources)
            game = replace(game, free_inputs=False)
        board, kept = full.restricted(nodes)
        return cls(judged, full, game, board, kept)

    def back(self, strategy: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same moves, with the nodes of the full board."""
        at = self.kept
        moves: list[Any] = []
        for move in strategy:
            if isinstance(move, Step):
                steps = (tuple(at[v] for v in nodes) for nodes in move)
                moves.append(Step(*steps))
            else:
                source = at[move.source] if move.source >= 0 else -1
                moves.append(Move(move.act, at[move.node], source))
        return tuple(moves)
