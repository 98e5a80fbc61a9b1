"""pebble: fit a PyTorch training step into a memory budget, with the least recomputation."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from pebble.plan.optimization import optimize
from pebble.plan.plan import Plan, load_plan
from pebble.plan.sweeps import Sweep, sweep
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Result, Status, register, solve, solver_names

if TYPE_CHECKING:
    from pebble.estimating import Estimate, estimate
    from pebble.fitting import Fit, fit
    from pebble.recipes import Recipe, Recommendation
    from pebble.recommending import recommend

__all__ = [
    "Answer",
    "BatchSizes",
    "CaptureError",
    "Estimate",
    "Fit",
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
    "Recipe",
    "Recommendation",
    "Result",
    "Schedule",
    "Status",
    "Sweep",
    "Trace",
    "UnknownSolver",
    "Value",
    "__version__",
    "estimate",
    "fit",
    "load_plan",
    "max_batch_size",
    "optimize",
    "recommend",
    "register",
    "simulate",
    "solve",
    "solver_names",
    "sweep",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())

# Their rooms import torch, which takes longer than everything here together.
_LATE = {
    "Estimate": "estimating",
    "Fit": "fitting",
    "Recipe": "recipes",
    "Recommendation": "recipes",
    "estimate": "estimating",
    "fit": "fitting",
    "recommend": "recommending",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
