"""The least cost of small graphs, by a search of positions that knows nothing of the solvers."""

from __future__ import annotations

import heapq
import itertools

from pebble.problem import Problem

Position = tuple[frozenset[int], tuple[int, ...]]
"""Values in memory, and executions of each op as far as they matter."""


def least_cost(
    problem: Problem, *, in_order: bool = False, copies: int | None = None
) -> int | None:
    """Least cost over all schedules within the budget, or None if there is none.

    Parameters
    ----------
    in_order : bool
        First executions in the reference order only.
    copies : int, optional
        Most executions of an op; any number without it.
    """
    graph, may_repeat = problem.graph, problem.may_repeat.tolist()
    n, values = len(graph.ops), graph.values
    inner = [frozenset(v for v in op.inputs if not values[v].external) for op in graph.ops]
    made = [frozenset(op.outputs) for op in graph.ops]
    pinned = frozenset(v for v, value in enumerate(values) if value.pinned)
    loose = frozenset(v for v, value in enumerate(values) if value.size and not value.pinned)
    doubles = [sum(values[v].size for v in outputs & pinned) for outputs in made]

    def moves(held: frozenset[int], runs: tuple[int, ...]) -> list[tuple[int, Position]]:
        found: list[tuple[int, Position]] = [(0, (held - {v}, runs)) for v in held & loose]
        for i, op in enumerate(graph.ops):
            again = runs[i] > 0
            if not inner[i] <= held or (again and (not may_repeat[i] or runs[i] == copies)):
                continue
            if in_order and not again and i and not runs[i - 1]:
                continue
            after = held | made[i]
            live = sum(values[v].size for v in after) + op.workspace + again * doubles[i]
            if live <= problem.budget:
                counted = runs[i] + 1 if copies is not None else 1
                found.append((op.cost, (after, (*runs[:i], counted, *runs[i + 1 :]))))
        return found

    start: Position = (frozenset(), (0,) * n)
    best, ticket = {start: 0}, itertools.count(1)
    queue = [(0, 0, start)]
    while queue:
        cost, _, (held, runs) = heapq.heappop(queue)
        if best[held, runs] < cost:
            continue
        if all(runs):
            return cost
        for more, then in moves(held, runs):
            if cost + more < best.get(then, cost + more + 1):
                best[then] = cost + more
                heapq.heappush(queue, (cost + more, next(ticket), then))
    return None
