"""pebble: fit a PyTorch training step into a memory budget, with the least recomputation."""

import logging

from pebble._version import __version__
from pebble.batching import BatchSizes, max_batch_size
from pebble.errors import (
    CaptureError,
    GraphError,
    InfeasibleBudget,
    InputsRequired,
    InvalidArgument,
    InvalidSchedule,
    PebbleError,
    PlanFormatError,
    PlanMismatch,
    UnknownSolver,
)
from pebble.graph import Graph, Op, Value
from pebble.pipeline import optimize
from pebble.plan import Plan, load_plan
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Result, Status, register, solve, solver_names
from pebble.sweeping import Sweep, sweep

__all__ = [
    "Answer",
    "BatchSizes",
    "CaptureError",
    "Graph",
    "GraphError",
    "InfeasibleBudget",
    "InputsRequired",
    "InvalidArgument",
    "InvalidSchedule",
    "Objective",
    "Op",
    "PebbleError",
    "Plan",
    "PlanFormatError",
    "PlanMismatch",
    "Problem",
    "Result",
    "Schedule",
    "Status",
    "Sweep",
    "Trace",
    "UnknownSolver",
    "Value",
    "__version__",
    "load_plan",
    "max_batch_size",
    "optimize",
    "register",
    "simulate",
    "solve",
    "solver_names",
    "sweep",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
