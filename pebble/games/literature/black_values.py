"""Known black and black-white pebble numbers. Each names its source; heights are in edges."""

from __future__ import annotations

from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.board import Board


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
