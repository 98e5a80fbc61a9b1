"""Known values of the reversible game. Each names its source."""

from __future__ import annotations

from functools import cache
from typing import Any

from pebble.games.board import Board

IMPOSSIBLE = 1 << 62
"""Stands for the moves where there is no strategy, in the recursions."""


def line_pebbles(n: int, *, hold: bool = True) -> int:
    """Reversible pebbles of the path of n nodes (Bennett 1989; Komarath et al. 2018).

    Examples
    --------
    >>> line_pebbles(64), line_pebbles(64, hold=False)
    (7, 7)
    """
    return (n - 1).bit_length() + 1 if hold else n.bit_length()


@cache
def knill_split(n: int, pebbles: int) -> tuple[int, int]:
    """Knill's recursion on the path of n nodes: (fewest moves, best place of the first stop).

    The moves are `IMPOSSIBLE` where there are too few pebbles.

    Examples
    --------
    >>> knill_split(8, 4)
    (25, 4)
    """
    if pebbles < 1:
        return IMPOSSIBLE, 0
    if n == 1:
        return 1, 0
    if pebbles < line_pebbles(n):
        return IMPOSSIBLE, 0
    if pebbles >= n:
        return 2 * n - 1, min(1, n - 1)
    return min(
        (
            knill_split(m, pebbles)[0]
            + knill_split(m, pebbles - 1)[0]
            + knill_split(n - m, pebbles - 1)[0],
            m,
        )
        for m in range(1, n)
    )


def line_moves(n: int, pebbles: int, *, hold: bool = True) -> int | None:
    """Fewest reversible moves on the path of n nodes (Knill 1995); None if there is no way.

    Examples
    --------
    >>> line_moves(8, 4), line_moves(16, 5), line_moves(5, 3)
    (25, 71, None)
    """
    moves = knill_split(n, pebbles)[0] if hold else _knill_visit(n, pebbles)
    return moves if moves < IMPOSSIBLE else None


@cache
def _knill_visit(n: int, pebbles: int) -> int:
    if n == 1:
        return 1 if pebbles >= 1 else IMPOSSIBLE
    if pebbles < 1:
        return IMPOSSIBLE
    best = IMPOSSIBLE
    for m in range(1, n):
        best = min(best, knill_split(m, pebbles)[0] + _knill_visit(n - m, pebbles - 1))
    return best


def bennett_line(base: int, levels: int) -> tuple[int, int, int]:
    """(length, pebbles, moves) of Bennett's schedule (1989) on a path of base**levels nodes.

    Examples
    --------
    >>> bennett_line(2, 3)
    (8, 4, 27)
    """
    return base**levels, levels * (base - 1) + 1, (2 * base - 1) ** levels


def reversible_moves(graph: Any) -> int:
    """Moves of the reversible game with a pebble for every node: 2 anc(T) - T (Bennett 1989)."""
    board = Board.of(graph)
    return 2 * len(board.ancestors(board.targets)) - len(board.targets)


def edge_rank(graph: Any) -> int:
    """Edge rank of a tree: 1 + the least, over edges, of the larger rank of the two sides.

    The reversible pebbling number of an in-tree is its edge rank + 1 (Komarath, Sarma and
    Sawlani 2018). Exponential; for small trees.
    """
    board = Board.of(graph)
    edges = frozenset((u, v) for v, reads in enumerate(board.preds) for u in reads)

    @cache
    def rank(part: frozenset[tuple[int, int]]) -> int:
        if not part:
            return 0
        return 1 + min(
            max(rank(side) for side in _components(part - {edge})) if len(part) > 1 else 0
            for edge in part
        )

    return int(rank(edges))


def _components(edges: frozenset[tuple[int, int]]) -> list[frozenset[tuple[int, int]]]:
    parts: list[tuple[set[int], set[tuple[int, int]]]] = []
    for edge in edges:
        touching = [p for p in parts if p[0] & set(edge)]
        nodes, members = set(edge), {edge}
        for part in touching:
            nodes |= part[0]
            members |= part[1]
            parts.remove(part)
        parts.append((nodes, members))
    return [frozenset(members) for _, members in parts]
