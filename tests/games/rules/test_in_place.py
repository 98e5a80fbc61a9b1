"""The in-place game: circuits run its strategies, exhaustive search agrees with both engines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import pytest

from pebble.errors import InvalidArgument
from pebble.games import (
    Act,
    Board,
    GameResult,
    InPlace,
    Move,
    Reversible,
    graph_of_edges,
    least_cost,
    least_pebbles,
    make_game,
    make_graph,
    pareto_front,
    play,
)
from pebble.games.arena import Arena
from pebble.games.constructions.heuristics import construct
from pebble.games.exact.search import search
from pebble.solver import Status

# -- exhaustive search, written from the rules alone ---------------------------------------------

Here = frozenset[int]


def moves_from(board: Board, xor: Here, here: Here) -> Iterator[Here]:
    """What may be there after one move: of the gates their pebbles, and the inputs."""
    for gate, reads in enumerate(map(frozenset, board.preds)):
        if reads and reads <= here:
            yield here ^ {gate}
        for u in reads if gate in xor else ():
            if reads - {u} <= here and (u in here) != (gate in here):
                yield here ^ {u, gate}


def exhaustive(board: Board, xor: Here, pebbles: int, *, beyond_inputs: bool = True) -> int | None:
    """Least moves, breadth first; None if the goal cannot be reached."""
    inputs = frozenset(board.sources)
    goal = inputs | set(board.targets)
    seen, layer, moves = {inputs}, {inputs}, 0
    while layer:
        if goal in layer:
            return moves
        found = {after for here in layer for after in moves_from(board, xor, here)}
        layer = {
            here
            for here in found - seen
            if (len(here) - len(inputs) if beyond_inputs else len(here - inputs)) <= pebbles
        }
        seen |= layer
        moves += 1
    return None


def random_network(seed: int, most_gates: int = 5) -> tuple[Board, Here]:
    """Gates that read one to three earlier nodes, and which of them are computed in place."""
    rng = random.Random(seed)
    inputs, gates = rng.randint(1, 3), rng.randint(1, most_gates)
    n = inputs + gates
    preds = [()] * inputs + [
        tuple(sorted(rng.sample(range(v), min(v, rng.choice((1, 2, 2, 3))))))
        for v in range(inputs, n)
    ]
    xor = frozenset(v for v in range(inputs, n) if rng.random() < 0.6)
    read = {u for row in preds for u in row}
    targets = {v for v in range(n) if v not in read or rng.random() < 0.15}
    if rng.random() < 0.3:  # some gates that no target needs
        targets = set(rng.sample(sorted(targets), max(1, len(targets) - 1)))
    return Board(
        names=tuple(f"n{v}" for v in range(n)),
        preds=tuple(preds),
        targets=tuple(sorted(targets)),
        name=f"network {seed}",
    ), xor


# -- the circuits of caterpillar's tests ---------------------------------------------------------

CIRCUITS = {  # edges of the network, its XOR gates, pebbles and least moves
    "xag1": ([(0, 3), (1, 3), (2, 4), (3, 4)], (3,), 1, 3),
    "xag2": ([(0, 3), (1, 3), (2, 4), (3, 4)], (3, 4), 1, 2),
    "xag3": ([(0, 3), (1, 3), (2, 4), (3, 4), (2, 5), (4, 5)], (3, 4), 1, 5),
    "xag4": (
        [(0, 4), (1, 4), (1, 5), (2, 5), (4, 6), (5, 6), (3, 7), (5, 7), (6, 8), (7, 8)],
        (4, 5, 6), 2, 9,
    ),
}  # fmt: skip
"""Family: XOR-AND networks. Convention: pebbles beyond the inputs, and moves. Source: repository
gmeuli/caterpillar, test/solvers/z3_inplace_solver.cpp, CHECK(strategy.size() == ...)."""


def circuit(name: str) -> tuple[Board, Here]:
    edges, xor, _, _ = CIRCUITS[name]
    return Board.of(graph_of_edges(max(max(e) for e in edges) + 1, edges)), frozenset(xor)


@pytest.mark.parametrize("name", CIRCUITS)
def test_caterpillar(name: str) -> None:
    board, xor = circuit(name)
    _, _, pebbles, moves = CIRCUITS[name]
    game = InPlace(nodes=tuple(xor))
    assert exhaustive(board, xor, pebbles) == moves
    assert exhaustive(board, xor, pebbles - 1) is None
    result = least_cost(board, game, pebbles)
    assert (result.cost, result.lower_bound, result.status) == (moves, moves, Status.OPTIMAL)
    assert least_pebbles(board, game).pebbles == pebbles
    assert_cpsat_agrees(board, game, pebbles, moves)


def test_a_gate_on_the_place_of_an_input_is_no_pebble_more() -> None:
    """Counted as a pebble, three of the four published values could not be."""
    found = {}
    for name, (_, _, pebbles, _) in CIRCUITS.items():
        board, xor = circuit(name)
        found[name] = exhaustive(board, xor, pebbles, beyond_inputs=False)
    assert found == {"xag1": None, "xag2": 2, "xag3": None, "xag4": None}


# -- engines against exhaustive search -----------------------------------------------------------


def assert_cpsat_agrees(board: Board, game: InPlace, pebbles: int, moves: int) -> None:
    """The same value within so many moves and with some to spare, and none with one fewer."""
    for slack in (0, 2):
        twin = least_cost(board, game, pebbles, engine="cpsat", horizon=moves + slack)
        assert (twin.cost, twin.lower_bound) == (moves, moves)
    if moves:
        fewer = least_cost(board, game, pebbles, engine="cpsat", horizon=moves - 1)
        assert fewer.status is Status.INFEASIBLE


@pytest.mark.parametrize("seed", range(40))
def test_both_engines_agree_with_exhaustive_search(seed: int) -> None:
    board, xor = random_network(seed)
    game = InPlace(nodes=tuple(xor))
    values = {k: exhaustive(board, xor, k) for k in range(len(board) + 1)}
    fewest = min(k for k, value in values.items() if value is not None)
    least = least_pebbles(board, game)
    assert (least.pebbles, least.status) == (fewest, Status.OPTIMAL)
    expected: list[tuple[int, int]] = []
    for k, value in values.items():
        found = least_cost(board, game, k)
        if value is None:
            assert found.status is Status.INFEASIBLE
            continue
        assert (found.cost, found.lower_bound) == (value, value)
        if not expected or value < expected[-1][1]:
            expected.append((k, value))
            assert_cpsat_agrees(board, game, k, value)
    front = pareto_front(board, game)
    assert [(point.pebbles, point.cost) for point in front] == expected
    if fewest:
        moves = front[0].cost
        few = least_cost(board, game, fewest - 1, engine="cpsat", horizon=moves)
        assert few.status is Status.INFEASIBLE
    assert least_pebbles(board, game, engine="cpsat").pebbles == fewest


@pytest.mark.parametrize("seed", range(300, 500))
def test_every_bound_on_the_way_is_a_bound(seed: int) -> None:
    """A search that expands less than it must would end above the least moves."""
    board, xor = random_network(seed, most_gates=6)
    game = InPlace(nodes=tuple(xor))
    for pebbles in range(1, 5):
        found = search(game, board, pebbles)
        moves = None if found.strategy is None else len(found.strategy)
        assert moves == exhaustive(board, xor, pebbles)
        assert found.infeasible == (moves is None)
        greedy = search(game, board, pebbles, optimal=False)
        assert (greedy.strategy is None) == (moves is None)


# -- what else must hold -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_with_nothing_in_place_it_is_the_reversible_game(seed: int) -> None:
    board, _ = random_network(seed + 600)

    def points(front: tuple[GameResult, ...]) -> list[tuple[int | None, int | None]]:
        return [(point.pebbles, point.cost) for point in front]

    apart = pareto_front(board, Reversible(free_inputs=True))
    assert points(pareto_front(board, InPlace(nodes=()))) == points(apart)


def test_a_chain_of_inverters_takes_one_pebble_and_as_many_moves() -> None:
    for gates in (1, 2, 5, 20, 50):
        result = least_pebbles(make_graph(f"path:{gates + 1}"), InPlace())
        assert (result.pebbles, result.cost, result.status) == (1, gates, Status.OPTIMAL)


class Circuit:
    """Bits of a reversible circuit: a move is one gate on the bit that it changes."""

    def __init__(self, board: Board, xor: Here, bits: tuple[bool, ...]) -> None:
        self.board, self.xor = board, xor
        self.values: list[bool] = [False] * len(board)
        inputs = iter(bits)
        for v, reads in enumerate(board.preds):
            self.values[v] = self.gate(v, self.values) if reads else next(inputs)
        self.bits = {v: self.values[v] for v in board.sources}
        self.spare: list[bool] = []
        self.peak = 0

    def gate(self, v: int, values: list[bool] | dict[int, bool]) -> bool:
        """XOR, and AND of the gates that do not work in place."""
        read = [values[u] for u in self.board.preds[v]]
        return sum(read) % 2 == 1 if v in self.xor else all(read)

    def run(self, strategy: tuple[Move, ...]) -> None:
        """Change bits as the moves say; a new bit is zero, and is zero again when it goes."""
        for act, node, source in strategy:
            if act == Act.SLIDE:
                gate = node if source in self.board.preds[node] else source
                others = [u for u in self.board.preds[gate] if u not in (node, source)]
                self.bits[node] = (
                    self.bits.pop(source) + sum(self.bits[u] for u in others)
                ) % 2 == 1
            elif act == Act.PLACE:
                self.bits[node] = self.gate(node, self.bits)
            else:
                assert self.bits.pop(node) == self.gate(node, self.bits)
            self.peak = max(self.peak, len(self.bits) - len(self.board.sources))
            assert all(bit == self.values[v] for v, bit in self.bits.items())


@pytest.mark.parametrize("seed", range(700, 720))
def test_strategies_run_on_bits(seed: int) -> None:
    """Each bit holds what the network computes there, the inputs are restored, the peak is bits."""
    board, xor = random_network(seed)
    for point in pareto_front(board, InPlace(nodes=tuple(xor))):
        for bits in product((False, True), repeat=len(board.sources)):
            machine = Circuit(board, xor, bits)
            machine.run(point.strategy or ())
            assert set(machine.bits) == {*board.sources, *board.targets}
            assert machine.peak == point.pebbles


def test_a_pebble_may_slide_back_onto_something_else_that_is_missing() -> None:
    """Of 0 and 1, which 2 and 3 both read, 2 takes the place of 0 and gives its own to 1."""
    board = Board(names=tuple("0123"), preds=((), (), (0, 1), (0, 1)), targets=(0, 1))
    around = [(3, -1), (2, 0), (0, 3), (3, 1), (1, 2)]
    moves = [Move(Act.PLACE if source < 0 else Act.SLIDE, v, source) for v, source in around]
    trace = play(InPlace(), board, [*moves, Move(Act.REMOVE, 3)])
    assert trace.pebbles.tolist() == [1, 1, 1, 1, 1, 0]
    assert (trace.placements, trace.cost, trace.time) == (3, 6, 6)


def test_large_boards_get_a_strategy_with_nothing_in_place() -> None:
    result = least_cost(make_graph("pyramid:11"), InPlace(), 40, time_limit=1)
    assert (result.status, result.engine) == (Status.FEASIBLE, "heuristic")
    arena = Arena.of(InPlace(), make_graph("pyramid:11"), None)
    assert construct(arena.game, arena.board, 40, deadline=0.0).strategy, "no time was left"
    assert least_cost(make_graph("path:1"), InPlace(), engine="heuristic").cost == 0


def test_names() -> None:
    game = make_game("reversible-inplace/nodes=3,n5")
    assert game == InPlace(nodes=(3, "n5"))
    for named in (game, InPlace(nodes=()), InPlace()):
        assert make_game(str(named)) == named
    with pytest.raises(InvalidArgument, match=r"options are .*nodes=\.\.\."):
        make_game("reversible-inplace/slide")
    with pytest.raises(InvalidArgument, match="has no option 'nodes=3'"):
        make_game("reversible/nodes=3")


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [((0,), "'n0' .* is an input"), (("x",), "has no node 'x'"), ((99,), "has no node 99")],
)
@pytest.mark.parametrize("engine", ["search", "cpsat"])
def test_wrong_gates(nodes: tuple[int | str, ...], sentence: str, engine: str) -> None:
    board, _ = random_network(0)
    with pytest.raises(InvalidArgument, match=sentence):
        least_cost(board, InPlace(nodes=nodes), 3, engine=engine)
    with pytest.raises(InvalidArgument, match=sentence):
        play(InPlace(nodes=nodes), board, [])


def test_there_are_no_weights() -> None:
    with pytest.raises(InvalidArgument, match="has no weights"):
        InPlace(weighted=True)
