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
from pebble.games.bounds.disjoint_paths import Path, disjoint_side_paths
from pebble.games.rules import Black

_PATHS = 5000


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
        found = PathCertificate(target, {path: disjoint_side_paths(board, path) for path in paths})
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
