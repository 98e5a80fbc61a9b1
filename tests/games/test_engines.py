"""Two exact engines and a naive exhaustive search agree on random graphs, for every game."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import pytest

from pebble.games import Act, Board, Game, least_cost, least_pebbles, make_game, pareto_front
from pebble.games.literature.random_graphs import random_dag
from pebble.solver import Status

SEQUENTIAL = [
    "black/noslide/recompute/visit",
    "black/slide/recompute/visit",
    "black/noslide/recompute/final",
    "black/slide/oneshot/final",
    "black/noslide/oneshot/visit",
    "black-weighted/recompute",
    "black-weighted/oneshot",
    "reversible/persistent",
    "reversible/visit",
    "black-white/persistent",
    "black-white/visit",
    "spooky/1",
    "red-blue/recompute",
    "red-blue/oneshot",
]
PARALLEL = ["parallel-black", "reversible-parallel/persistent"]


def random_board(game: Game, number: int, least: int, most: int) -> Board:
    n = least + number % (most - least + 1)
    density = (0.3, 0.45, 0.6)[number % 3]
    return Board.of(random_dag(n, density, seed=number, weighted=game.weighted))


def steps_of(game: Game, strategy: Any) -> int:
    """Moves as the step-indexed model counts them."""
    if game.parallel:
        return len(strategy)
    free = () if game.cost_name == "moves" else (Act.REMOVE,)
    return sum(move.act not in free for move in strategy)


@pytest.mark.parametrize("name", SEQUENTIAL + PARALLEL)
def test_cpsat_confirms_the_front_of_the_state_search(name: str) -> None:
    """Same value at each point within as many moves, and none with one pebble less or move less."""
    game = make_game(name)
    for number in range(50):
        board = random_board(game, number, 3, 7)
        front = pareto_front(board, game)
        assert front
        assert all(point.status is Status.OPTIMAL for point in front)
        for point in front:
            moves = steps_of(game, point.strategy)
            options = {"engine": "cpsat", "horizon": moves}
            twin = least_cost(board, game, point.pebbles, **options)
            assert (twin.cost, twin.lower_bound) == (point.cost, point.cost)
        fewest = front[0]
        options["horizon"] = steps_of(game, fewest.strategy)
        assert fewest.pebbles == least_pebbles(board, game).pebbles
        fewer = least_cost(board, game, fewest.pebbles - 1, **options)
        assert fewer.status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("name", "density", "seed", "pebbles", "moves"),
    [
        ("black-white/visit", 0.6, 152, 4, 42),
        ("black-white/visit", 0.4, 174, 4, 38),
        ("black-white/persistent", 0.4, 461, 4, 30),
        ("black-white/persistent", 0.25, 396, 4, 27),
    ],
)
def test_cpsat_confirms_black_white_far_above_the_floor(
    name: str, density: float, seed: int, pebbles: int, moves: int
) -> None:
    """Ten nodes that take up to twice the moves that any strategy takes."""
    game, board = make_game(name), Board.of(random_dag(10, density, seed=seed))
    assert least_cost(board, game, pebbles).cost == moves
    for slack in (0, 3):
        twin = least_cost(board, game, pebbles, engine="cpsat", horizon=moves + slack)
        assert (twin.cost, twin.lower_bound) == (moves, moves)
    fewer = least_cost(board, game, pebbles, engine="cpsat", horizon=moves - 1)
    assert fewer.status is Status.INFEASIBLE


@pytest.mark.parametrize("name", ["black-white/visit", "black-white/persistent"])
def test_cpsat_plays_black_white_with_weights_and_inner_targets(name: str) -> None:
    """Weighted pebbles and moves; a target may be read by others; pebbles to spare, or too few."""
    game = make_game(f"{name}/weighted")
    for number in range(20):
        board = random_board(game, number + 500, 3, 6)
        inner = Board.of(board, (len(board) // 2, len(board) - 1))
        for case in (board, inner):
            fewest = least_pebbles(case, game).pebbles
            assert fewest is not None
            for pebbles in (fewest, fewest + 2):
                best = least_cost(case, game, pebbles)
                moves = steps_of(game, best.strategy)
                twin = least_cost(case, game, pebbles, engine="cpsat", horizon=moves + 2)
                assert (twin.cost, twin.lower_bound) == (best.cost, best.cost)
            fewer = least_cost(case, game, fewest - 1, engine="cpsat", horizon=moves)
            assert fewer.status is Status.INFEASIBLE


# -- exhaustive search, written from the rules alone ---------------------------------------------

State = tuple[frozenset[int], frozenset[int], frozenset[int]]
EMPTY: frozenset[int] = frozenset()


def naive(game: Any, board: Board, pebbles: int) -> int | None:
    """Least cost by Dijkstra over all positions; None if the goal cannot be reached."""
    title, targets = game.title, set(board.targets)
    start = (EMPTY, frozenset(board.sources) if title == "red-blue" else EMPTY, EMPTY)
    size = board.sizes if game.weighted else [1] * len(board)
    heap: list[Any] = [(0, 0, start)]
    done: set[State] = set()
    count = 0
    while heap:
        cost, _, state = heapq.heappop(heap)
        if state in done:
            continue
        done.add(state)
        if reached(game, state, targets):
            return cost
        for price, after in SUCCESSORS[title](game, board, state):
            weighed = after[0] | after[1] if title == "black-white" else after[0]
            if after not in done and sum(size[v] for v in weighed) <= pebbles:
                count += 1
                heapq.heappush(heap, (cost + price, count, after))
    return None


def reached(game: Any, state: State, targets: set[int]) -> bool:
    a, b, c = state
    if game.title == "red-blue":
        return targets <= b
    if game.title == "parallel-black":
        return targets <= c
    if game.title == "reversible-parallel":
        return a == targets
    if game.title == "black":
        return targets <= (a if game.hold else c)
    if game.title == "black-white":
        return not b and (a == targets if game.hold else not a and targets <= c)
    return (a == targets and not b) if game.hold else targets <= c


def black(game: Any, board: Board, state: State) -> Iterator[tuple[int, State]]:
    a, b, seen = state
    for v in range(len(board)):
        reads, price = set(board.preds[v]), board.costs[v] if game.weighted else 1
        if v in a:
            yield 0, (a - {v}, b, seen)
        elif reads <= a and (game.recompute or v not in seen):
            yield price, (a | {v}, b, seen | {v})
            for u in reads if game.slide else ():
                yield price, (a - {u} | {v}, b, seen | {v})


def reversible(game: Any, board: Board, state: State) -> Iterator[tuple[int, State]]:
    a, ghosts, seen = state
    limit = getattr(game, "ghosts", 0)
    for v in range(len(board)):
        ready = set(board.preds[v]) <= a
        if v in a:
            if ready:
                yield 1, (a - {v}, ghosts, seen)
            if len(ghosts) < limit:
                yield 1, (a - {v}, ghosts | {v}, seen)
        elif ready:
            yield 1, (a | {v}, ghosts - {v}, seen if game.hold else seen | {v})


def black_white(game: Any, board: Board, state: State) -> Iterator[tuple[int, State]]:
    a, w, seen = state
    for v in range(len(board)):
        ready = set(board.preds[v]) <= a | w
        if v in a:
            yield 1, (a - {v}, w, seen)
        elif v in w:
            if ready:
                yield 1, (a, w - {v}, seen)
        else:
            now = seen if game.hold else seen | {v}
            yield 1, (a, w | {v}, now)
            if ready:
                yield 1, (a | {v}, w, now)


def red_blue(game: Any, board: Board, state: State) -> Iterator[tuple[int, State]]:
    red, blue, seen = state
    for v in range(len(board)):
        reads = set(board.preds[v])
        if v in red:
            yield 0, (red - {v}, blue, seen)
            if v not in blue:
                yield 1, (red, blue | {v}, seen)
            continue
        if v in blue:
            yield 1, (red | {v}, blue, seen)
        if reads and reads <= red and v not in seen:
            yield 0, (red | {v}, blue, seen if game.recompute else seen | {v})


def subsets(board: Board) -> Iterator[frozenset[int]]:
    for word in range(1 << len(board)):
        yield frozenset(v for v in range(len(board)) if word >> v & 1)


def parallel_black(game: Any, board: Board, state: State) -> Iterator[tuple[int, State]]:
    a, b, seen = state
    for after in subsets(board):
        if all(set(board.preds[v]) <= a for v in after - a):
            size = sum(board.sizes[v] for v in after) if game.weighted else len(after)
            yield size, (after, b, seen | after)


def parallel_reversible(game: Any, board: Board, state: State) -> Iterator[tuple[int, State]]:
    a, b, seen = state
    for change in subsets(board):
        if all(set(board.preds[v]) <= a & (a ^ change) for v in change):
            yield 1, (a ^ change, b, seen)


SUCCESSORS = {
    "parallel-black": parallel_black,
    "reversible-parallel": parallel_reversible,
    "black": black,
    "reversible": reversible,
    "spooky": reversible,
    "black-white": black_white,
    "red-blue": red_blue,
}


@pytest.mark.parametrize(
    "name",
    [
        *SEQUENTIAL,
        *PARALLEL,
        "black/slide/weighted",
        "black/slide/oneshot/weighted",
        "spooky/2",
        "parallel-black/weighted",
    ],
)
def test_state_search_agrees_with_exhaustive_search(name: str) -> None:
    """100 graphs of up to 6 nodes: the least cost with the fewest pebbles and with one more."""
    game = make_game(name)
    for number in range(100):
        board = random_board(game, number + 1000, 3, 5 if number % 4 else 6)
        fewest = least_pebbles(board, game).pebbles
        assert fewest is not None
        assert fewest == 0 or naive(game, board, fewest - 1) is None
        for pebbles in (fewest, fewest + 1):
            assert naive(game, board, pebbles) == least_cost(board, game, pebbles).cost
