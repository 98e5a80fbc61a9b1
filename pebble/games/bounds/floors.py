"""Simple lower bounds that hold for any strategy: on pebbles, and on cost."""

from __future__ import annotations

from pebble.games.board import Board
from pebble.games.bounds.certificates import path_lower_bound
from pebble.games.position import Game
from pebble.games.rules import Black, InPlace, ParallelBlack, RedBlue, Reversible


def pebbles_lower_bound(game: Game, board: Board) -> int:
    """Pebbles that any strategy needs, from single placements and from path certificates."""
    if isinstance(game, Black):
        least = least_working_set(game, board)
        return least if game.weighted else max(least, path_lower_bound(game, board))
    if isinstance(game, InPlace):  # at the end, beside the inputs
        return sum(1 for t in board.targets if board.preds[t])
    plain = board if game.weighted else board.unweighted()
    if game.parallel:
        # the step that blocks the last open path leaves a pebble on it and on each side path
        paths = 0 if game.weighted else path_lower_bound(Black(slide=True), board)
        return max([paths, *(sum(plain.sizes[u] for u in row) for row in board.preds)])
    loaded = isinstance(game, RedBlue) and game.blue_inputs
    # without its rule for removals, a reversible or spooky strategy is a black one
    as_black = isinstance(game, Reversible) and not game.weighted
    black = path_lower_bound(Black(), board) if as_black else 0
    return max(
        black,
        max(
            (
                plain.sizes[v] + sum(plain.sizes[u] for u in row)
                for v, row in enumerate(board.preds)
                if row or not loaded
            ),
            default=0,
        ),
    )


def least_working_set(game: Black, board: Board) -> int:
    """What one placement needs at least: its inputs, and without sliding its output."""
    plain = board if game.weighted else board.unweighted()
    least = 0
    for v, reads in enumerate(board.preds):
        inputs = sum(plain.sizes[u] for u in reads)
        output = plain.sizes[v] + (0 if game.slide and reads else plain.workspaces[v])
        least = max(least, max(inputs, output) if game.slide and reads else inputs + output)
    return least


def cost_lower_bound(game: Game, board: Board) -> int:
    """Cost that any strategy has, however many pebbles there are."""
    costs = board.costs if game.weighted else board.unweighted().costs
    sizes = board.sizes if game.weighted else board.unweighted().sizes
    if isinstance(game, RedBlue):
        loads = [v for v in board.sources if board.succs[v]] if game.blue_inputs else []
        stores = [v for v in board.targets if board.preds[v] or not game.blue_inputs]
        work = sum(costs[v] for v in range(len(board)) if board.preds[v] or not game.blue_inputs)
        return (
            game.load * sum(sizes[v] for v in loads)
            + game.store * sum(sizes[v] for v in stores)
            + game.compute * work
        )
    if isinstance(game, Black):
        return sum(costs)
    if isinstance(game, ParallelBlack):
        return sum(sizes)
    if isinstance(game, InPlace):
        return _in_place_moves(game, board)
    if game.parallel:
        return 1 if len(board) else 0
    removed = set(range(len(board))) - set(board.targets)
    if not getattr(game, "hold", True):
        removed = set() if game.title == "reversible" else set(range(len(board)))
    return sum(costs) + sum(costs[v] for v in removed)


def _in_place_moves(game: InPlace, board: Board) -> int:
    """Each gate is computed at first; if nothing slides from its place, it is uncomputed too."""
    left_by_slides = {u for v in game.in_place(board) for u in board.preds[v]}
    gates = {v for v in board.ancestors(board.targets) if board.preds[v]}
    return len(gates) + len(gates - left_by_slides - set(board.targets))
