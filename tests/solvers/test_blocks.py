"""Where a graph is cut into blocks, and what these weigh."""

from __future__ import annotations

import numpy as np

from pebble.problem import Problem
from pebble.solvers.chains.blocks import Blocks
from pebble.solvers.edits.recompute_once import RecomputeOnce
from tests.graphs import masked_net


def test_blocks_that_are_all_alike_are_found() -> None:
    graph = masked_net(24)
    problem = Problem(graph, 0)
    blocks = Blocks.cut(problem, RecomputeOnce(graph), 24, options=4)
    chain = blocks.chain(problem, 10)
    inner = slice(2, len(chain) - 2)
    assert len(chain) >= 20
    assert len(np.unique(chain.time[inner])) == 1
    assert len(np.unique(chain.hold[inner], axis=0)) == 1
