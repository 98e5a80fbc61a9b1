"""A lower bound on red-blue transfers from cuts: what must be alive between two computations.

Put the computations in the order in which they happen. After the t-th one there is a set D of t
computed nodes that contains the predecessors of its members. Every value that something in D has
made or read and something outside D still reads is in fast memory then, or is loaded again later;
a computed value must in addition be stored first. The inputs and the output of the t-th computation
are in fast memory in any case. With room for S, what exceeds S costs extra on top of loading each
input and storing each output once. The cheapest D of each size is found by integer programming, and
the worst size gives the bound. (Up to 64 nodes `pebble.games.exact.downsets.least_spill` is
stronger: it finds the order whose worst cut is cheapest.)

With recomputation the argument holds where every computed node is read at most once: each then has
one computation whose value reaches the output, and D is made of those.
"""

from __future__ import annotations

import time

from pebble.games.board import Board
from pebble.games.rules import RedBlue

_PARTS = (0.36, 0.25, 0.5, 0.64, 0.75)
"""Sizes of D that are tried, as parts of the computed nodes; the smaller ones are easier."""
_SMALL = 16
"""Up to so many computed nodes all sizes are tried."""


def cut_applies(game: RedBlue, board: Board) -> bool:
    """Whether the argument holds for this game on this board."""
    single = all(len(board.succs[v]) <= 1 for v in range(len(board)) if board.preds[v])
    sinks = all(not board.succs[v] for v in board.targets)
    return game.blue_inputs and not game.weighted and sinks and (single or not game.recompute)


def cut_bound(
    game: RedBlue, board: Board, red: int, *, time_limit: float = 20.0, enough: int | None = None
) -> int:
    """Transfers that a strategy costs beyond loading and storing everything once.

    Parameters
    ----------
    board : Board
        Only ancestors of targets; `cut_applies` must hold.
    enough : int, optional
        Stop when the bound reaches this.
    """
    inner = [v for v in range(len(board)) if board.preds[v]]
    best, deadline = 0, time.monotonic() + time_limit
    small = len(inner) <= _SMALL
    for part in [t / len(inner) for t in range(1, len(inner))] if small else _PARTS:
        left = deadline - time.monotonic()
        if left <= 0 or (enough is not None and best >= enough):
            break
        t = max(1, round(part * len(inner)))
        best = max(best, _cheapest_cut(game, board, inner, t, red, left))
    return best


def _cheapest_cut(
    game: RedBlue, board: Board, inner: list[int], t: int, red: int, time_limit: float
) -> int:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    done = {v: model.new_bool_var(f"done{v}") for v in inner}
    for v in inner:
        for u in board.preds[v]:
            if u in done:
                model.add_implication(done[v], done[u])
    model.add(sum(done.values()) == t)
    last = {v: model.new_bool_var(f"last{v}") for v in inner}
    model.add_exactly_one(last.values())
    for v in inner:
        model.add_implication(last[v], done[v])
        for w in board.succs[v]:
            model.add_implication(last[v], ~done[w])
    used, costs = [], []
    for v in range(len(board)):
        held = model.new_bool_var(f"held{v}")
        used.append(held)
        # [Constraint] the t-th computation has its inputs and its output in fast memory
        needed = [last[w] for w in (v, *board.succs[v]) if w in last]
        for now in needed:
            model.add_implication(now, held)
        if not board.succs[v]:
            continue
        live, away = model.new_bool_var(f"live{v}"), model.new_bool_var(f"away{v}")
        made = [done[v]] if v in done else [done[w] for w in board.succs[v]]
        for here in made:
            for w in board.succs[v]:
                # [Constraint] made or read already, and read again later: alive
                model.add_bool_or([live, ~here, done[w]])
        model.add_implication(away, live)
        model.add_implication(away, ~held)
        model.add_bool_or([~live, away, held])
        costs.append((game.load + (game.store if v in done else 0)) * away)
    # [Constraint] room for so many
    model.add(sum(used) <= red)
    model.minimize(sum(costs))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = max(time_limit, 0.01)
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.UNKNOWN):
        return 0
    return max(0, int(-(-(solver.best_objective_bound - 1e-6) // 1)))
