"""pebble: fit a PyTorch training step into a memory budget, with the least recomputation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pebble._version import __version__
from pebble.errors import (
    BudgetNotKept,
    CaptureError,
    GraphError,
    InfeasibleBudget,
    InputsRequired,
    InvalidArgument,
    InvalidSchedule,
    PebbleError,
    PebbleWarning,
    PlanFormatError,
    PlanMismatch,
    PlanNotInEffect,
    StateNotKept,
    UnknownSolver,
)
from pebble.graph import Graph, Op, Value
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Result, Status, register, solve, solver_names

if TYPE_CHECKING:
    from pebble.finetune.batch_sizes import BatchSizes
    from pebble.finetune.card_fit import Fit, fit
    from pebble.finetune.estimates import Estimate, estimate
    from pebble.finetune.largest_batch import max_batch_size
    from pebble.finetune.micro_batch_splits import loss_weights, micro_batches
    from pebble.finetune.recipes import Recipe, Recommendation
    from pebble.finetune.recommendations import recommend
    from pebble.measure.weights import weight_arithmetic
    from pebble.plan.loading import load_plan
    from pebble.plan.optimization import optimize
    from pebble.plan.plan import Plan
    from pebble.plan.sweeps import Sweep, sweep
    from pebble.runtime.plan_status import PlanStatus
    from pebble.runtime.status import status

__all__ = [
    "Answer",
    "BatchSizes",
    "BudgetNotKept",
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
    "PebbleWarning",
    "Plan",
    "PlanFormatError",
    "PlanMismatch",
    "PlanNotInEffect",
    "PlanStatus",
    "Problem",
    "Recipe",
    "Recommendation",
    "Result",
    "Schedule",
    "StateNotKept",
    "Status",
    "Sweep",
    "Trace",
    "UnknownSolver",
    "Value",
    "__version__",
    "estimate",
    "fit",
    "load_plan",
    "loss_weights",
    "max_batch_size",
    "micro_batches",
    "optimize",
    "recommend",
    "register",
    "simulate",
    "solve",
    "solver_names",
    "status",
    "sweep",
    "weight_arithmetic",
]

# What most programs need of these is one or two; some of their rooms import torch, which takes
# longer than everything here together.
_LATE = {
    "BatchSizes": "finetune.batch_sizes",
    "Estimate": "finetune.estimates",
    "Fit": "finetune.card_fit",
    "Plan": "plan.plan",
    "PlanStatus": "runtime.plan_status",
    "Recipe": "finetune.recipes",
    "Recommendation": "finetune.recipes",
    "Sweep": "plan.sweeps",
    "estimate": "finetune.estimates",
    "fit": "finetune.card_fit",
    "load_plan": "plan.loading",
    "loss_weights": "finetune.micro_batch_splits",
    "max_batch_size": "finetune.largest_batch",
    "micro_batches": "finetune.micro_batch_splits",
    "optimize": "plan.optimization",
    "recommend": "finetune.recommendations",
    "status": "runtime.status",
    "sweep": "plan.sweeps",
    "weight_arithmetic": "measure.weights",
}


def __getattr__(name: str) -> Any:
    if name == "plan":  # a package that is loaded when it is looked at
        return import_module(f"{__name__}.plan")
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    return found
