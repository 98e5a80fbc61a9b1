"""The kernels are compiled once a process, in a thread that no time limit waits for."""

from __future__ import annotations

import threading
import time

from pebble.graph import Graph, Op, Value
from pebble.problem import Problem

_compiling: list[threading.Thread] = []


def compiled(deadline: float) -> bool:
    """Wait for the compiled kernels until a deadline on `time.perf_counter`.

    They are compiled once a process, or read from disk, in a thread that outlives the deadline;
    compiling takes many seconds, and nothing can interrupt it.
    """
    if not _compiling:
        _compiling.append(threading.Thread(target=_compile, daemon=True))
        _compiling[0].start()
    if deadline == float("inf"):
        _compiling[0].join()
    else:
        _compiling[0].join(max(deadline - time.perf_counter(), 0.0))
    return not _compiling[0].is_alive()


def _compile() -> None:
    """Anneal a problem of two ops for a few trials."""
    from pebble.solvers.annealing.boards import net_of
    from pebble.solvers.annealing.cooling import cool
    from pebble.solvers.annealing.runs import Cooling

    ops = [Op("a", 1, (), (0,)), Op("b", 1, (0,), (1,))]
    problem = Problem(Graph(ops, [Value("a", 1), Value("b", 1)]), 2)
    cooling = Cooling(64, hot=0.1, cold=0.01, penalty=1.0, adds=64, removes=64, chain=128, seed=0)
    cool(problem, net_of(problem), (0, 1), cooling)
