"""Certificates that so many pebbles are needed, in a form that anyone can check.

The path argument of Cook (1974) and Paterson and Hewitt (1970), for any DAG: fix a target t. At
the start no path from a source to t is blocked by a pebble, and when t is pebbled all are. Take
the last moment when an open path P becomes blocked. The move put a pebble on the source of P
(any later node of P would have needed one on P before), and now every path is blocked: on each of
d vertex-disjoint side paths, from sources to different nodes of P and else off P, lies a pebble.
So there are d + 1 pebbles. Without sliding there are d + 2 at some time unless P is t alone: with
d + 1 each pebble is the only one on its side path or on P, so none may go before the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.rules import Black

_PATHS = 5000

Path = tuple[int, ...]


@dataclass(frozen=True)
class PathCertificate:
    """For every path from a source to a target, vertex-disjoint side paths that join it.

    Attributes
    ----------
    target : int
    side_paths : dict from a path to its side paths
        Each side path starts at a source, avoids the path and the other side paths, and its last
        node is read by a node of the path.
    """

    target: int
    side_paths: dict[Path, tuple[Path, ...]]

    def bound(self, game: Black) -> int:
        """Pebbles that the certificate proves necessary in a black game."""
        return min(
            (len(sides) + (1 if game.slide or len(path) == 1 else 2))
            for path, sides in self.side_paths.items()
        )


def certify(game: Black, board: Board, *, most_paths: int = _PATHS) -> PathCertificate | None:
    """The best path certificate over all targets; None if there are too many paths.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> certificate = certify(Black(), Board.of(make_graph("pyramid:8")))
    >>> certificate.bound(Black())
    10
    """
    best: PathCertificate | None = None
    for target in board.targets:
        paths = _paths_to(board, target, most_paths)
        if paths is None:
            continue
        found = PathCertificate(target, {path: _side_paths(board, path) for path in paths})
        if best is None or found.bound(game) > best.bound(game):
            best = found
    return best


def path_lower_bound(game: Black, board: Board) -> int:
    """What path certificates prove; 0 if there is none."""
    certificate = certify(game, board)
    return 0 if certificate is None else certificate.bound(game)


def check_certificate(board: Board, certificate: PathCertificate) -> None:
    """Check a certificate by its definition alone.

    Raises
    ------
    InvalidArgument
        If a path is missing, or side paths do not start at sources, touch each other or the path,
        or do not join it.
    """
    paths = _paths_to(board, certificate.target, len(certificate.side_paths))
    if paths is None or set(paths) - set(certificate.side_paths):
        raise InvalidArgument("The certificate lacks a path from a source to its target.")
    for path in paths:
        used = set(path)
        for side in certificate.side_paths[path]:
            joined = any(side[-1] in board.preds[v] for v in path)
            linked = all(u in board.preds[v] for u, v in pairwise(side))
            if board.preds[side[0]] or not joined or not linked or used.intersection(side):
                raise InvalidArgument(f"Side path {side} of path {path} is wrong.")
            used.update(side)


def _paths_to(board: Board, target: int, most: int) -> list[Path] | None:
    done: list[Path] = []
    stack: list[Path] = [(target,)]
    while stack:
        path = stack.pop()
        reads = board.preds[path[0]]
        if not reads:
            done.append(path)
        stack += [(u, *path) for u in reads]
        if len(done) + len(stack) > most:
            return None
    return done


def _side_paths(board: Board, path: Path) -> tuple[Path, ...]:
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
