"""The chain's programme against Griewank's formula and exhaustive search; the solver on nets."""

from __future__ import annotations

import heapq
import itertools
import math
import random

import numpy as np
import pytest

from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve
from pebble.solvers.chains.persistent_table import NEVER, PersistentTable
from pebble.solvers.chains.weights import Chain


def uniform(length: int) -> Chain:
    """Unit forward steps, unit states, nothing else takes memory; no block is kept whole."""
    one, none = np.ones((length, 1), np.int64), np.zeros((length, 1), np.int64)
    carry = np.ones((length, length + 1), np.int64)
    return Chain(one[:, 0], none[:, 0], carry, none, 99 * one, none, none, none[:, 0])


def binomial(length: int, states: int) -> int:
    """Least forward advances for `length` steps and `states` states (Griewank, 1992)."""
    repeats = 0
    while math.comb(states + repeats, states) < length:
        repeats += 1
    return repeats * length - math.comb(states + repeats, states + 1)


@pytest.mark.parametrize("length", range(1, 31))
def test_uniform_chains_meet_the_binomial_optimum(length: int) -> None:
    times = PersistentTable(uniform(length), 6).times()
    for states in range(1, 7):
        assert times[states] == binomial(length, states) + length


def random_chain(rng: random.Random, length: int, options: int) -> Chain:
    def draw(low: int, high: int, *shape: int) -> np.ndarray:
        count = math.prod(shape)
        return np.array([rng.randint(low, high) for _ in range(count)], np.int64).reshape(shape)

    states = draw(1, 3, length + 1)
    carry = np.broadcast_to(states, (length, length + 1)).copy()
    hold = draw(0, 3, length, options) + states[1:, None]
    return Chain(
        draw(1, 9, length), draw(0, 3, length), carry, draw(0, 5, length, options), hold,
        draw(0, 3, length, options), draw(1, 4, length, options), draw(-1, 1, length),
    )  # fmt: skip


def least_persistent(chain: Chain, memory: int) -> int | None:
    """Dijkstra over what is stored: states stay until their backward, passes keep their start.

    State: (next backward, position, stack). The position is the state at hand, free to be passed
    on; the stack holds stored states and kept blocks, in order.
    """
    length = len(chain)
    start = (length - 1, 0, ((0, -1),))  # the first state is stored and on nobody's bill
    queue: list[tuple[int, int, tuple]] = [(0, 0, start)]
    best, ticket = {start: 0}, itertools.count(1)

    def billed(stack: tuple, last: int) -> int:
        total = int(chain.grown[last + 1 :].sum())
        for below, (block, option) in itertools.pairwise(stack):
            total += int(chain.hold[below]) if below[1] >= 0 else int(chain.carry[0, block])
            assert option >= -1
        return total

    while queue:
        cost, _, state = heapq.heappop(queue)
        if cost > best[state]:
            continue
        last, at, stack = state
        if last < 0:
            return cost
        free = memory - billed(stack, last)
        moves: list[tuple[int, tuple]] = []
        top, kept = stack[-1]
        if kept == -1 and at == top:
            for k in range(chain.extra.shape[1]):  # this block with option k
                if top == last:
                    if free >= max(chain.forward_peak[top, k], chain.backward_peak[top, k], 0):
                        moves.append((chain.time[top] + chain.extra[top, k], _after(stack, last)))
                elif free >= max(int(chain.forward_peak[top, k]), 0):
                    new = (*stack[:-1], (top, k), (top + 1, -1))
                    moves.append((int(chain.time[top]), (last, top + 1, new)))
        if kept == -1 and at < last and free >= max(int(chain.pass_peak[at]), 0):
            moves.append((int(chain.time[at]), (last, at + 1, stack)))  # pass it on
        if kept == -1 and at > top:
            moves.append((0, (last, at, (*stack, (at, -1)))))  # store the state at hand
        if kept >= 0 and top == last and free >= max(int(chain.backward_peak[top, kept]), 0):
            moves.append((int(chain.extra[top, kept]), _after(stack, last)))
        for extra, new in moves:
            if billed(new[2], new[0]) <= memory and cost + extra < best.get(new, NEVER):
                best[new] = cost + int(extra)
                heapq.heappush(queue, (best[new], next(ticket), new))
    return None


def _after(stack: tuple, last: int) -> tuple:
    """After the backward of the block on top: back to what is stored below it."""
    stack = stack[:-1]
    return (last - 1, stack[-1][0] if stack else -1, stack)


@pytest.mark.parametrize("seed", range(200))
def test_equals_exhaustive_persistent_search(seed: int) -> None:
    rng = random.Random(seed)
    chain = random_chain(rng, rng.randint(1, 5), rng.randint(1, 3))
    times = PersistentTable(chain, 14).times()
    for memory in range(15):
        expected = least_persistent(chain, memory)
        assert (times[memory] if times[memory] < NEVER else None) == expected


def network(layers: int, inside: int = 5) -> Graph:
    """Layers of a large cheap op, a mask that may not be drawn again, and small dear ops."""
    values = [Value("x", 100, external=True), Value("h0", 20)]
    ops = [Op("embed", 5, (0,), (1,))]
    saved: list[list[int]] = []

    def value(size: int, *, pinned: bool = False) -> int:
        values.append(Value(f"v{len(values)}", size, pinned=pinned))
        return len(values) - 1

    state = 1
    for layer in range(layers):
        mask = value(2)
        ops.append(Op(f"mask{layer}", 1, (0,), (mask,), recomputable=False))
        reads, keep = [state], [state, mask]
        for k in range(inside):
            out = value(80 if k % 2 else 20)
            ops.append(Op(f"f{layer}.{k}", 1 if k % 2 else 30, tuple(reads), (out,), workspace=k))
            reads, keep = [out, mask], [*keep, out]
        state = value(20)
        ops.append(Op(f"add{layer}", 1, (keep[0], reads[0]), (state,)))
        saved.append(keep)
    loss, tangent = value(1, pinned=True), value(1)
    ops.append(Op("loss", 5, (state,), (loss,)))
    ops.append(Op("boundary", 0, (loss,), (tangent,), recomputable=False))
    boundary, grad = len(ops) - 1, tangent
    for layer in reversed(range(layers)):
        for k in reversed(range(inside)):
            out, weight = value(20), value(3, pinned=True)
            reads = (grad, saved[layer][k + 2], saved[layer][1])
            ops.append(Op(f"b{layer}.{k}", 40, reads, (out, weight), phase=Phase.BACKWARD))
            grad = out
    return Graph(ops, values, boundary=boundary)


def test_a_deep_network_needs_about_the_root_of_its_depth() -> None:
    graph = network(36)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    fixed = sum(v.size for v in graph.values if v.pinned) + 2 * 36
    results = {
        percent: solve(Problem(graph, fixed + (peak - fixed) * percent // 100), "chain")
        for percent in (100, 60, 30, 20, 12)
    }
    overhead = {
        percent: None if r.trace is None else r.trace.recomputed_cost / graph.total_cost
        for percent, r in results.items()
    }
    assert overhead[100] == 0
    forward = sum(op.cost for op in graph.ops if op.phase == "forward") / graph.total_cost
    assert overhead[60] is not None
    assert 0 < overhead[60] < 0.05, "the cheap half of the memory goes first"
    assert overhead[20] is not None
    assert overhead[20] <= forward, "one more forward at most"
    assert overhead[12] is not None
    assert overhead[12] <= 2 * forward


def test_blocks_that_are_all_alike_are_found() -> None:
    from pebble.solvers.chains.blocks import Blocks
    from pebble.solvers.edits.recompute_once import RecomputeOnce

    graph = network(24)
    problem = Problem(graph, 0)
    blocks = Blocks.cut(problem, RecomputeOnce(graph), 24, options=4)
    chain = blocks.chain(problem, 10)
    inner = slice(2, len(chain) - 2)
    assert len(chain) >= 20
    assert len(np.unique(chain.time[inner])) == 1
    assert len(np.unique(chain.hold[inner], axis=0)) == 1


def test_runs_of_blocks_that_are_alike_are_solved_once() -> None:
    from pebble.solvers.chains.blocks import Blocks
    from pebble.solvers.edits.recompute_once import RecomputeOnce

    assert PersistentTable(uniform(30), 6).distinct == 30, "one for each length"
    graph = network(40)
    problem = Problem(graph, 0)
    blocks = Blocks.cut(problem, RecomputeOnce(graph), 40, options=4)
    table = PersistentTable(blocks.chain(problem, 10), 100)
    runs = len(blocks) * (len(blocks) + 1) // 2
    assert len(blocks) >= 30
    assert table.distinct < runs / 4


@pytest.mark.parametrize("seed", range(20))
def test_alike_runs_have_equal_rows(seed: int) -> None:
    rng = random.Random(seed)
    one = random_chain(rng, 2, 2)
    fields = (one.extra, one.hold, one.forward_peak, one.backward_peak, one.grown)
    twice = Chain(
        np.tile(one.time, 2),
        np.tile(one.pass_peak, 2),
        np.tile(one.carry[:, :1], (2, 5)),
        *(np.concatenate([field, field]) for field in fields),
    )
    table = PersistentTable(twice, 14)
    assert table.distinct < 10
    for memory in range(0, 15, 3):
        expected = least_persistent(twice, memory)
        found = table.times()[memory]
        assert (found if found < NEVER else None) == expected


def test_without_a_forward_half_there_is_still_an_answer() -> None:
    ops = [Op("a", 1, (), (0,), phase=Phase.BACKWARD), Op("b", 1, (0,), (1,), phase=Phase.BACKWARD)]
    graph = Graph(ops, [Value("x", 2), Value("y", 2)])
    assert solve(Problem(graph, 4), "chain").objective == 2
