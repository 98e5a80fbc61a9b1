"""State search: A* over the configurations of a game. Exact; proves and refutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.moves import Act, Move
from pebble.games.position import Game
from pebble.games.rules import Black, BlackWhite, RedBlue, Reversible, Spooky
from pebble.games.symmetry import byte_tables

LIMIT = 64
MOST_STATES = 12_000_000
GREED = 64
"""Weight of what is left in a search that only asks whether the goal can be reached."""
_CHUNK = 20_000
_ACTS = (
    Act.PLACE, Act.REMOVE, Act.SLIDE, Act.WHITE, Act.LIFT, Act.GHOST, Act.RESTORE, Act.LOAD,
    Act.STORE,
)  # fmt: skip
_STORE_REMOVE = 9


@dataclass(frozen=True)
class Found:
    """What an engine says about one number of pebbles.

    Attributes
    ----------
    strategy : tuple of Move or Step, or None
    bound : int
        Proved least cost with these pebbles (0 where the search only asked for existence).
    infeasible : bool
        Proved: no strategy (within the horizon, if there is one).
    complete : bool
        Whether the engine finished: with a strategy and a claim that its cost is the least, or
        with a proof that there is none.
    states : int
        Configurations seen.
    horizon : int or None
        Most moves of the strategies that the claim speaks of; None: any number.
    """

    strategy: tuple[Any, ...] | None
    bound: int = 0
    infeasible: bool = False
    complete: bool = False
    states: int = 0
    horizon: int | None = None


def can_search(game: Game, board: Board) -> bool:
    """Whether the state search plays this game on a board of this size."""
    codes = (Black, BlackWhite, Reversible, RedBlue)
    return isinstance(game, codes) and len(board) <= LIMIT


def search(
    game: Game,
    board: Board,
    pebbles: int,
    *,
    optimal: bool = True,
    deadline: float | None = None,
    max_states: int = MOST_STATES,
) -> Found:
    """A strategy of least cost with at most so many pebbles, or the proof that there is none.

    Parameters
    ----------
    board : Board
        At most 64 nodes. Free inputs must be left out already.
    optimal : bool
        Least cost; False: any strategy, found greedily.
    deadline : float, optional
        Value of ``time.monotonic()`` to stop at.
    max_states : int
        Gives up above this (about 60 bytes each).
    """
    require_small(board)
    from pebble.games import _search_kernels as k

    rules, tables, blue = translate(game, board, pebbles, k)
    counters = np.zeros(5, np.int64)
    counters[k.GOAL] = -1
    store = new_store(k, 1 << 12)
    width = 4 + len(board) + 2 * max(len(board), sum(map(len, board.preds)))
    out, moves = np.zeros((width, 3), np.uint64), np.zeros((width, 2), np.int64)
    k.begin(rules, tables, store, counters, np.uint64(blue))
    greed = 1 if optimal else GREED
    images = byte_tables(board if game.weighted else board.unweighted())

    def advance(store: Any, chunk: int) -> int:
        return int(k.advance(rules, tables, images, store, counters, out, moves, chunk, greed))

    status, store = drive(k, advance, store, counters, deadline, max_states)
    states = int(counters[k.STATES])
    if status == k.FOUND:
        strategy = _strategy(store, int(counters[k.GOAL]), images)
        bound = int(store.g[counters[k.GOAL]]) if optimal else 0
        return Found(strategy, bound, complete=True, states=states)
    if status == k.EXHAUSTED:
        return Found(None, infeasible=True, complete=True, states=states)
    return Found(None, int(counters[k.BOUND]), states=states)


def require_small(board: Board) -> None:
    """Raise `InvalidArgument` if the board has more nodes than a word has bits."""
    if len(board) > LIMIT:
        raise InvalidArgument(
            f"State search plays on at most {LIMIT} nodes, and {board.name!r} has {len(board)}; "
            "engine='heuristic' plays beyond."
        )


def drive(
    k: Any,
    advance: Callable[[Any, int], int],
    store: Any,
    counters: Any,
    deadline: float | None,
    max_states: int,
) -> tuple[int, Any]:
    """Advance a search by chunks until it ends, or time or states run out: (status, store)."""
    while True:
        status = advance(store, _CHUNK)
        if status == k.FULL:
            store = grown(k, store, counters)
        elif status != k.RUNNING:
            return status, store
        if deadline is not None and time.monotonic() > deadline:
            return status, store
        if counters[k.STATES] > max_states:
            return status, store


def translate(game: Game, board: Board, pebbles: int, k: Any) -> tuple[Any, Any, int]:
    """The rules as numbers, the board as bit sets, and what lies in slow memory at first."""
    code = {
        Black: k.BLACK, Reversible: k.REVERSIBLE, BlackWhite: k.BLACK_WHITE, Spooky: k.SPOOKY,
        RedBlue: k.RED_BLUE,
    }.get(type(game), k.BLACK)  # fmt: skip
    n = len(board)
    ghosts = getattr(game, "ghosts", 0)
    rules = np.zeros(7, np.int64)
    rules[k.GAME], rules[k.CAPACITY], rules[k.N] = code, pebbles, n
    rules[k.GHOSTS] = n if ghosts is None else ghosts
    rules[k.SLIDE] = getattr(game, "slide", False)
    rules[k.HOLD] = getattr(game, "hold", False)
    rules[k.RECOMPUTE] = getattr(game, "recompute", True)
    plain = board if game.weighted else board.unweighted()
    size, cost = np.array(plain.sizes, np.int64), np.array(plain.costs, np.int64)
    blue, zero = 0, np.zeros(n, np.int64)
    place_cost, remove_cost, load_cost, store_cost = cost, cost, zero, zero
    if isinstance(game, RedBlue):
        place_cost, load_cost, store_cost = game.compute * cost, game.load * size, game.store * size
        blue = _mask(board.sources) if game.blue_inputs else 0
    ancestors = [board.ancestors([v]) for v in range(n)]
    tables = k.Tables(
        preds=_words(board.preds),
        succs=_words(board.succs),
        ancestors=_words(ancestors),
        size=size,
        extra=np.array(plain.workspaces, np.int64),
        place_cost=place_cost,
        remove_cost=remove_cost,
        load_cost=load_cost,
        store_cost=store_cost,
        one=np.ones(n, np.int64),
        masks=np.array([_mask(board.targets), blue], np.uint64),
    )
    return rules, tables, blue


def _mask(nodes: Any) -> int:
    return sum(1 << v for v in nodes)


def _words(rows: Any) -> Any:
    return np.array([_mask(row) for row in rows], np.uint64)


def new_store(k: Any, size: int) -> Any:
    return k.Store(
        a=np.zeros(size, np.uint64),
        b=np.zeros(size, np.uint64),
        c=np.zeros(size, np.uint64),
        g=np.zeros(size, np.int64),
        parent=np.zeros(size, np.int32),
        move=np.zeros(size, np.int32),
        image=np.zeros(size, np.int32),
        closed=np.zeros(size, np.uint8),
        table=np.full(2 * size, -1, np.int32),
        heap_f=np.zeros(2 * size, np.int64),
        heap_h=np.zeros(2 * size, np.int64),
        heap_id=np.zeros(2 * size, np.int32),
    )


def grown(k: Any, store: Any, counters: Any) -> Any:
    """The same search with twice the room."""
    states, heap = int(counters[k.STATES]), int(counters[k.HEAP])
    bigger = new_store(k, 2 * len(store.a))
    for name in ("a", "b", "c", "g", "parent", "move", "image", "closed"):
        getattr(bigger, name)[:states] = getattr(store, name)[:states]
    for name in ("heap_f", "heap_h", "heap_id"):
        getattr(bigger, name)[:heap] = getattr(store, name)[:heap]
    k.rehash(bigger, states)
    return bigger


def enter_first(k: Any, store: Any, counters: Any, bound: int, left: int) -> None:
    """Enter the empty board as the first state, with a bound on the value of what follows."""
    zero = np.uint64(0)
    counters[k.STATES], counters[k.GOAL] = 1, -1
    store.g[0], store.parent[0] = bound, -1
    store.table[k.slot_of(store, zero, zero, zero)] = 0
    k.push(store, counters, bound, left, 0)


def path_to(store: Any, state: int, images: Any) -> Iterator[tuple[int, list[int], list[int]]]:
    """The states on the way to one, each with the nodes of the board before and after its move.

    A state stands for its images under automorphisms, so its nodes must be taken back: the two
    lists hold the node of the board for each node of the parent, and of the state.
    """
    states = []
    while state > 0:
        states.append(state)
        state = int(store.parent[state])
    after = list(range(LIMIT))
    for state in reversed(states):
        before, which = after, int(store.image[state])
        if which:
            after, table = before.copy(), images[which - 1]
            for v in range(LIMIT):
                image = int(table[v // 8, 1 << v % 8]).bit_length() - 1
                if image >= 0:
                    after[image] = before[v]
        yield state, before, after


def _strategy(store: Any, goal: int, images: Any) -> tuple[Move, ...]:
    moves: list[Move] = []
    for state, board, _ in path_to(store, goal, images):
        code = int(store.move[state])
        act, node = code & 15, board[code >> 4 & 63]
        if act == _STORE_REMOVE:
            moves += [Move(Act.STORE, node), Move(Act.REMOVE, node)]
        elif act == 2:
            moves.append(Move(Act.SLIDE, node, board[code >> 10]))
        else:
            moves.append(Move(_ACTS[act], node))
    return tuple(moves)
