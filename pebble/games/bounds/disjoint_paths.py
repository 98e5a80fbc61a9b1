"""Vertex-disjoint paths from the sources of a board to a path, as many as there are."""

from __future__ import annotations

from itertools import pairwise

from pebble.games.board import Board

Path = tuple[int, ...]
"""Nodes one after the other, each read by the next."""


def disjoint_side_paths(board: Board, path: Path) -> tuple[Path, ...]:
    """A largest set of vertex-disjoint paths from sources to the path, by augmenting paths."""
    on_path = set(path)
    ends = {u for v in path for u in board.preds[v] if u not in on_path}
    forward: dict[int, int] = {}  # flow leaves node u for node forward[u]; -1: joins the path
    back: dict[int, int] = {}  # flow enters node v from node back[v]; -1: starts there
    starts = [s for s in board.sources if s not in on_path]
    while _augment(board, starts, ends, on_path, forward, back):
        pass
    sides = []
    for s in starts:
        if back.get(s) == -1:
            side = [s]
            while forward[side[-1]] != -1:
                side.append(forward[side[-1]])
            sides.append(tuple(side))
    return tuple(sides)


def _augment(
    board: Board,
    starts: list[int],
    ends: set[int],
    banned: set[int],
    forward: dict[int, int],
    back: dict[int, int],
) -> bool:
    """One more disjoint path, over the nodes split in two: (v, 0) entering, (v, 1) leaving."""
    origin: dict[tuple[int, int], tuple[int, int] | None] = {}
    queue = []
    for s in starts:
        if s not in back:
            origin[s, 0] = None
            queue.append((s, 0))
    for node in queue:
        v, side = node
        following: list[tuple[int, int]] = []
        if side == 1:
            if v in ends and forward.get(v) != -1:
                _apply(node, origin, forward, back)
                return True
            following = [(w, 0) for w in board.succs[v] if w not in banned and forward.get(v) != w]
            if v in back:
                following.append((v, 0))
        elif v in back:  # carried already: go back along the flow that enters it
            if back[v] != -1:
                following.append((back[v], 1))
        else:
            following.append((v, 1))
        for new in following:
            if new not in origin:
                origin[new] = node
                queue.append(new)
    return False


def _apply(
    node: tuple[int, int],
    origin: dict[tuple[int, int], tuple[int, int] | None],
    forward: dict[int, int],
    back: dict[int, int],
) -> None:
    chain: list[tuple[int, int]] = []
    step: tuple[int, int] | None = node
    while step is not None:
        chain.append(step)
        step = origin[step]
    chain.reverse()
    edges = {(u, w) for u, w in forward.items() if w != -1}
    joins = {u for u, w in forward.items() if w == -1} | {node[0]}
    begins = {v for v, u in back.items() if u == -1} | {chain[0][0]}
    for (u, i), (w, j) in pairwise(chain):
        if (i, j) == (1, 0) and u != w:
            edges.add((u, w))
        elif (i, j) == (0, 1) and u != w:
            edges.remove((w, u))
    forward.clear()
    back.clear()
    forward.update(dict.fromkeys(joins, -1))
    back.update(dict.fromkeys(begins, -1))
    for u, w in edges:
        forward[u], back[w] = w, u
