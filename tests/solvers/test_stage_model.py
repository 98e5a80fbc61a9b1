"""The rows of Checkmate's stages: schedules satisfy them."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solvers.integer.stage_model import StageModel
from tests.graphs import rich_graph


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9))
def test_hints_are_solutions(seed: int) -> None:
    """A schedule put into the model satisfies every row, memory included."""
    rng = random.Random(seed)
    graph = rich_graph(seed, 8, reads=(0, 2), reach=5)
    model = StageModel(Problem(graph, 10**6), [op.recomputable for op in graph.ops])
    model.build()
    stages = [[t] for t in range(8)]
    for t, runs in enumerate(model.runs):
        stages[t] = sorted({t, *(k for k in runs if rng.random() < 0.2)})
    schedule = Schedule(tuple(i for stage in stages for i in stage))
    model.limit_memory(simulate(graph, schedule).peak)
    true = model.hint(stages)
    assert true is not None
    used = [  # rows that forbid useless runs may refuse a random schedule; memory may not
        row for row in model.rows.rows if max(row[1]) > 1
    ]
    for literals, coefficients, upper in used:
        assert sum(c for c, x in zip(coefficients, literals) if true[x]) <= upper
