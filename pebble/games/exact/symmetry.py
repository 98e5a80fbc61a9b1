"""Automorphisms of a board: positions that differ by one of them are searched once.

Nodes are told apart by weights, by being a target, and by the colours of what they read and of
what reads them, refined until nothing changes. What is left is searched by backtracking, one
orbit of a stabiliser after the other, as in Schreier's and Sims's method.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.games.board import Board

_MOST = 256
"""So many automorphisms are used at most: each position is tried under all of them."""
_TRIES = 20_000

Permutation = tuple[int, ...]


def automorphisms(board: Board, *, most: int = _MOST) -> list[Permutation]:
    """Automorphisms that keep edges, targets and weights; at most so many, the identity first.

    The whole group if it is small enough, else some of it.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> [len(automorphisms(Board.of(make_graph(name)))) for name in ("path:4", "tree:2x2", "fft:2")]
    [1, 8, 64]
    """
    n = len(board)
    colours = _colours(board)
    group: list[Permutation] = [tuple(range(n))]
    for fixed in reversed(range(n)):  # the stabiliser of the nodes before `fixed`
        if len(group) >= most:
            break
        cosets = [group[0]]
        for image in range(fixed + 1, n):
            if colours[image] == colours[fixed]:
                found = _extended(board, colours, fixed, image)
                if found is not None:
                    cosets.append(found)
        group = [_after(first, then) for first in cosets for then in group][:most]
    return group


def byte_tables(board: Board, *, most: int = _MOST) -> Any:
    """The automorphisms but the identity, for sets of nodes as 64-bit words, byte by byte.

    Returns
    -------
    array of uint64, shape (automorphisms, 8, 256)
        The image of a word is the union of the images of its bytes.
    """
    images = automorphisms(board, most=most)[1:] if len(board) <= 64 else []
    tables = np.zeros((len(images), 8, 256), np.uint64)
    for table, image in zip(tables, images):
        for v, w in enumerate(image):
            has = (np.arange(256) >> (v % 8) & 1).astype(bool)
            table[v // 8, has] |= np.uint64(1 << w)
    return tables


def _colours(board: Board) -> list[int]:
    targets = set(board.targets)
    keys: list[Any] = [
        (v in targets, board.sizes[v], board.costs[v], board.workspaces[v])
        for v in range(len(board))
    ]
    while True:
        names = {key: i for i, key in enumerate(sorted(set(keys)))}
        colours = [names[key] for key in keys]
        keys = [
            (
                colours[v],
                sorted(colours[u] for u in board.preds[v]),
                sorted(colours[w] for w in board.succs[v]),
            )
            for v in range(len(board))
        ]
        keys = [(own, tuple(below), tuple(above)) for own, below, above in keys]
        if len(set(keys)) == len(names):
            return colours


def _extended(board: Board, colours: list[int], fixed: int, image: int) -> Permutation | None:
    """An automorphism that fixes the nodes before `fixed` and takes it to `image`."""
    order = _connected(board, fixed)
    to = {v: v for v in range(fixed)}
    taken = set(to)
    tries = 0

    def fits(v: int, w: int) -> bool:
        if w in taken or colours[v] != colours[w]:
            return False
        below = {to[u] for u in board.preds[v] if u in to}
        above = {to[u] for u in board.succs[v] if u in to}
        same_below = below == taken.intersection(board.preds[w])
        return same_below and above == taken.intersection(board.succs[w])

    def complete(at: int) -> bool:
        nonlocal tries
        tries += 1
        if at == len(order):
            return True
        v = order[at]
        for w in range(len(board)) if at else (image,):
            if tries < _TRIES and fits(v, w):
                to[v] = w
                taken.add(w)
                if complete(at + 1):
                    return True
                taken.remove(to.pop(v))
        return False

    return tuple(to[v] for v in range(len(board))) if complete(0) else None


def _connected(board: Board, first: int) -> list[int]:
    """The nodes from `first` on, neighbours soon after each other."""
    left, order = set(range(first, len(board))), []
    queue = [first]
    while left:
        if not queue:
            queue = [min(left)]
        v = queue.pop(0)
        if v in left:
            left.remove(v)
            order.append(v)
            queue += [u for u in (*board.succs[v], *board.preds[v]) if u in left]
    return order


def _after(first: Permutation, then: Permutation) -> Permutation:
    """Apply `then`, and `first` on top of it."""
    return tuple(first[v] for v in then)
