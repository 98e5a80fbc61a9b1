"""pebble: fit a PyTorch training step into a memory budget, with the least recomputation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pebble._version import __version__
from pebble.errors import (
    BudgetNotKept,
    CaptureError,
    CardWarning,
    GraphError,
    InfeasibleBudget,
    InputsRequired,
    InvalidArgument,
    InvalidSchedule,
    PebbleError,
    PebbleWarning,
    PlanFormatError,
    PlanIsWrong,
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
    from pebble.finetune.explanations import explain
    from pebble.finetune.largest_batch import max_batch_size
    from pebble.finetune.micro_batch_splits import loss_weights, micro_batches
    from pebble.finetune.recipes import Recipe, Recommendation
    from pebble.finetune.recommendations import recommend
    from pebble.measure.weights import weight_arithmetic
    from pebble.plan.budgeted import budgeted
    from pebble.plan.explanation import Explanation
    from pebble.plan.families.family import Family
    from pebble.plan.families.making import family
    from pebble.plan.families.plots import plot_family
    from pebble.plan.loading import load_plan
    from pebble.plan.module_plan import ModulePlan
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
    "CardWarning",
    "Estimate",
    "Explanation",
    "Family",
    "Fit",
    "Graph",
    "GraphError",
    "InfeasibleBudget",
    "InputsRequired",
    "InvalidArgument",
    "InvalidSchedule",
    "ModulePlan",
    "Objective",
    "Op",
    "PebbleError",
    "PebbleWarning",
    "Plan",
    "PlanFormatError",
    "PlanIsWrong",
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
    "budgeted",
    "estimate",
    "explain",
    "family",
    "fit",
    "load_plan",
    "loss_weights",
    "max_batch_size",
    "micro_batches",
    "optimize",
    "plot_family",
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
    "Explanation": "plan.explanation",
    "Family": "plan.families.family",
    "Fit": "finetune.card_fit",
    "ModulePlan": "plan.module_plan",
    "Plan": "plan.plan",
    "PlanStatus": "runtime.plan_status",
    "Recipe": "finetune.recipes",
    "Recommendation": "finetune.recipes",
    "Sweep": "plan.sweeps",
    "budgeted": "plan.budgeted",
    "estimate": "finetune.estimates",
    "explain": "finetune.explanations",
    "family": "plan.families.making",
    "fit": "finetune.card_fit",
    "load_plan": "plan.loading",
    "loss_weights": "finetune.micro_batch_splits",
    "max_batch_size": "finetune.largest_batch",
    "micro_batches": "finetune.micro_batch_splits",
    "optimize": "plan.optimization",
    "plot_family": "plan.families.plots",
    "recommend": "finetune.recommendations",
    "status": "runtime.status",
    "sweep": "plan.sweeps",
    "weight_arithmetic": "measure.weights",
}


def __getattr__(name: str) -> Any:
    if name in ("plan", "data"):  # packages that are loaded when they are looked at
        return import_module(f"{__name__}.{name}")
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
