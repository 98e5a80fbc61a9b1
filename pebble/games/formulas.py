"""Known values as functions. Each names its source; heights are in edges."""

from __future__ import annotations

from functools import cache
from math import comb, isqrt, log2, sqrt
from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.board import Board

INFINITE = 1 << 62
"""Stands for "impossible" in the recursions."""


def tree_pebbles(arity: int, height: int, *, slide: bool = False) -> int:
    """Black pebbles of the complete tree (Paterson and Hewitt 1970; Cook et al. 2012).

    Examples
    --------
    >>> tree_pebbles(2, 4), tree_pebbles(2, 4, slide=True)
    (6, 5)
    """
    return (arity - 1) * height + (1 if slide or height == 0 else 2)


def pyramid_pebbles(height: int, *, slide: bool = False) -> int:
    """Black pebbles of the pyramid (Cook 1974)."""
    return height + (1 if slide or height == 0 else 2)


def black_white_pebbles(height: int, *, hold: bool = False) -> int:
    """Black-white pebbles of pyramids and binary trees (Klawe 1985; Lengauer and Tarjan 1980)."""
    if height == 0:
        return 1
    return height // 2 + 3 if hold else (height + 1) // 2 + 2


def grid_pebbles(rows: int, columns: int, *, slide: bool = False) -> int:
    """Black pebbles of the grid with both sides at least 2; checked up to 5 x 5."""
    return min(rows, columns) + (0 if slide else 1)


def butterfly_pebbles(log2n: int, *, slide: bool = False) -> int:
    """Black pebbles of the FFT on 2**log2n points, each output once; checked up to 8 points."""
    return log2n + (1 if slide or log2n == 0 else 2)


def bipartite_stack_pebbles(width: int, layers: int, *, slide: bool = False) -> int:
    """Black pebbles of a stack of complete bipartite graphs; checked up to width 4."""
    if layers == 1:
        return width + (0 if slide else 1)
    return 2 * width - (1 if slide else 0)


def bit_reversal_pebbles(log2n: int, *, recompute: bool = True) -> int:
    """Black pebbles of two chains in bit reversal, without sliding; checked up to 16 nodes."""
    return 3 if recompute else 2 ** (log2n - 1) + 2


def revolve_steps(steps: int, slots: int) -> int:
    """Forward steps of binomial checkpointing (Griewank and Walther 2000, Algorithm 799).

    Parameters
    ----------
    steps : int
        Steps to reverse.
    slots : int
        Checkpoints, the one of the initial state included.

    Examples
    --------
    >>> revolve_steps(10, 3)
    15
    """
    if steps <= 1:
        return 0
    if slots < 1:
        raise InvalidArgument("Reversing more than one step takes a checkpoint.")
    slots = min(slots, steps - 1)
    repeats = next(r for r in range(steps + 1) if comb(slots + r, slots) >= steps)
    return repeats * steps - comb(slots + repeats, repeats - 1)


def training_chain_placements(n: int, pebbles: int, *, slide: bool = False) -> int:
    """Fewest placements on the training chain of 2n nodes: n + 1 + t(n, c), n at least 2.

    Black pebbling is checkpointing: t is Revolve's count with c = pebbles - 2 slots (pebbles - 1
    with sliding). Checked up to n = 31.

    Examples
    --------
    >>> training_chain_placements(100, 20)
    281
    """
    return n + 1 + revolve_steps(n, pebbles - (1 if slide else 2))


def sqrt_segments(n: int) -> tuple[int, int]:
    """(peak, placements) of sqrt(n) checkpointing on a chain of n = s * s (Chen et al. 2016)."""
    side = isqrt(n)
    if side * side != n:
        raise InvalidArgument(f"{n} is no square.")
    return 2 * side, 3 * n - 2 * side + 1


def line_pebbles(n: int, *, hold: bool = True) -> int:
    """Reversible pebbles of the path of n nodes (Bennett 1989; Komarath et al. 2018).

    Examples
    --------
    >>> line_pebbles(64), line_pebbles(64, hold=False)
    (7, 7)
    """
    return (n - 1).bit_length() + 1 if hold else n.bit_length()


@cache
def _knill(n: int, pebbles: int) -> tuple[int, int]:
    """(moves, best place of the first checkpoint)."""
    if pebbles < 1:
        return INFINITE, 0
    if n == 1:
        return 1, 0
    if pebbles < line_pebbles(n):
        return INFINITE, 0
    if pebbles >= n:
        return 2 * n - 1, min(1, n - 1)
    return min(
        (
            _knill(m, pebbles)[0] + _knill(m, pebbles - 1)[0] + _knill(n - m, pebbles - 1)[0],
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
    moves = _knill(n, pebbles)[0] if hold else _knill_visit(n, pebbles)
    return moves if moves < INFINITE else None


@cache
def _knill_visit(n: int, pebbles: int) -> int:
    if n == 1:
        return 1 if pebbles >= 1 else INFINITE
    if pebbles < 1:
        return INFINITE
    best = INFINITE
    for m in range(1, n):
        best = min(best, _knill(m, pebbles)[0] + _knill_visit(n - m, pebbles - 1))
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


def in_tree_pebbles(graph: Any, *, slide: bool = True) -> int:
    """Black pebbles of an in-tree (Sethi and Ullman 1970): labels from the leaves up.

    Raises
    ------
    InvalidArgument
        If some node is read twice.
    """
    board = Board.of(graph)
    if any(len(readers) > 1 for readers in board.succs):
        raise InvalidArgument(f"{board.name!r} is no in-tree: a node is read more than once.")
    labels: list[int] = []
    for reads in board.preds:
        below = sorted((labels[u] for u in reads), reverse=True)
        label = max((need + i for i, need in enumerate(below)), default=1)
        labels.append(label if slide else max(label, len(reads) + 1))
    return max(labels, default=0)


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


def matrix_product_transfers(rows: int, inner: int, columns: int, red: int) -> int:
    """A lower bound on red-blue transfers of a matrix product (Hong and Kung 1981).

    Every input is loaded and every output stored; and at least mkn / sqrt(2 S) - S in any case.

    Examples
    --------
    >>> matrix_product_transfers(3, 3, 3, 8)
    27
    """
    ends = rows * inner + inner * columns + rows * columns
    return max(ends, int(-(-(rows * inner * columns / sqrt(2 * red) - red) // 1)))


def butterfly_transfers(log2n: int, red: int) -> int:
    """A lower bound on red-blue transfers of the FFT on 2**log2n points (Hong and Kung 1981)."""
    n = 1 << log2n
    return max(2 * n, int(-(-(n * (log2n + 1) / (2 * log2(4 * red)) - red) // 1)))
