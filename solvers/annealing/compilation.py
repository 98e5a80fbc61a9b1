"""The kernels are compiled once a machine, in a process that no time limit waits for."""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import time
from typing import Any

from pebble.graph import Graph, Op, Value
from pebble.problem import Problem

_compiling: list[threading.Thread] = []
_NICE = 5
"""By how much the process that compiles stands back behind others."""
_COMPILE = (
    "import sys; sys.path[:] = {path!r}; "
    "from pebble.solvers.annealing.compilation import compile_kernels; compile_kernels()"
)


def compiled(deadline: float) -> bool:
    """Wait for the compiled kernels until a deadline on `time.perf_counter`.

    They are read from disk once a process, in a thread that outlives the deadline. What is not on
    disk yet, another process compiles: that takes many seconds, nothing can interrupt it, and in a
    thread it would hold up the others.
    """
    if not _compiling:
        _compiling.append(threading.Thread(target=_prepare, daemon=True))
        _compiling[0].start()
    if deadline == float("inf"):
        _compiling[0].join()
    else:
        _compiling[0].join(max(deadline - time.perf_counter(), 0.0))
    return not _compiling[0].is_alive()


def compile_kernels() -> None:
    """Anneal a problem of two ops for a few trials, with what is on disk where there is some."""
    from pebble.compiling import without_catching_warnings
    from pebble.solvers.annealing.boards import net_of
    from pebble.solvers.annealing.cooling import cool
    from pebble.solvers.annealing.runs import Cooling

    ops = [Op("a", 1, (), (0,)), Op("b", 1, (0,), (1,))]
    problem = Problem(Graph(ops, [Value("a", 1), Value("b", 1)]), 2)
    cooling = Cooling(64, hot=0.1, cold=0.01, penalty=1.0, adds=64, removes=64, chain=128, seed=0)
    with without_catching_warnings():
        cool(problem, net_of(problem), (0, 1), cooling)


def _prepare() -> None:
    from pebble.compiling import is_kept, keeps

    kernels = entries()
    if all(keeps(kernel) for kernel in kernels) and not all(is_kept(kernel) for kernel in kernels):
        _compile_elsewhere()
    compile_kernels()


def entries() -> list[Any]:
    """What Python calls of the kernels."""
    from pebble.solvers.annealing.kernels.chunk import anneal_chunk
    from pebble.solvers.annealing.kernels.layout import dense, lay_out, record, record_peak
    from pebble.solvers.annealing.kernels.trials import sweep_idle

    return [lay_out, dense, record, record_peak, anneal_chunk, sweep_idle]


def _compile_elsewhere() -> None:
    """Fill numba's directory on disk from another process; without one, this process compiles."""
    nothing = subprocess.DEVNULL
    command = [sys.executable, "-c", _COMPILE.format(path=sys.path)]
    try:
        process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
    except (OSError, ValueError):
        return
    atexit.register(process.kill)
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
    process.wait()
    atexit.unregister(process.kill)
