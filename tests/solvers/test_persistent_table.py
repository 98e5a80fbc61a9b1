"""The chain's programme against Griewank's formula and exhaustive search."""

from __future__ import annotations

import heapq
import itertools
import math
import random

import numpy as np
import pytest

from pebble.problem import Problem
from pebble.solvers.chains.blocks import Blocks
from pebble.solvers.chains.persistent_table import NEVER, PersistentTable
from pebble.solvers.chains.weights import Chain
from pebble.solvers.edits.recompute_once import RecomputeOnce
from tests.graphs import masked_net


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


def test_runs_of_blocks_that_are_alike_are_solved_once() -> None:
    assert PersistentTable(uniform(30), 6).distinct == 30, "one for each length"
    graph = masked_net(40)
    problem = Problem(graph, 0)
    blocks = Blocks.cut(problem, RecomputeOnce(graph), 40, options=4)
    table = PersistentTable(blocks.chain(problem, 10), 100)
    runs = len(blocks) * (len(blocks) + 1) // 2
    assert len(blocks) >= 30
    assert table.distinct < runs / 4
