"""Module-level plans for the calls that a module which plans by itself gets no graph of."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pebble.errors import BudgetNotKept, CaptureError, InfeasibleBudget
from pebble.formatting import gigabytes
from pebble.notices import warn
from pebble.plan.module_level import module_plan_instead
from pebble.plan.replanning import Replanner
from pebble.progress import display_log, progress_line
from pebble.runtime.block_follower import BlockFollower
from pebble.runtime.block_members import PlannedBlocks
from pebble.runtime.input_forms import describe
from pebble.runtime.planner import Planner
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private.pytree import tree_map_only

logger = logging.getLogger("pebble")


def plan_blocks(
    planner: Planner,
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    refused: CaptureError,
) -> PlannedBlocks:
    """Plan a call module by module: its step is run a few times on its inputs, as it is at first.

    Raises
    ------
    CaptureError
        The refusal itself, if that cannot be done or an option was asked for that only a graph has.
    InfeasibleBudget
        Names the inputs that do not fit.
    """
    assert isinstance(planner, Replanner)
    asked, began = planner.asked, time.perf_counter()
    subject = f"{type(model).__name__} for {describe(args, kwargs)}"
    # what the loop computed the inputs from is not the planned step's to go back through
    cut = tree_map_only(torch.Tensor, _leaf, (args, dict(kwargs)))
    with progress_line(asked.announce, f"plan {type(model).__name__} module by module") as line:
        try:
            plan = module_plan_instead(
                model, Inputs(*cut), asked.step, planner.next_search(), refused
            )
        except InfeasibleBudget as error:
            raise error.of(subject) from None
        line.result(f"{len(plan.chosen)} of {len(plan.calls)} calls run again")
    seconds = time.perf_counter() - began
    if plan.baseline_peak_bytes > asked.budget_bytes:
        warn(
            f"{subject} is planned module by module, and was run without a plan to be measured: "
            f"that took {gigabytes(plan.baseline_peak_bytes)}, above the budget of "
            f"{gigabytes(asked.budget_bytes)}. Plan it where there is room, with pebble.optimize, "
            "and apply that plan.",
            BudgetNotKept,
        )
    with display_log(asked.announce):
        logger.info(
            "Planned %s module by module: peak %s (predicted within %.1f %%), %.2f %% more "
            "compute; its step was run a few times to measure it; %.1f s.",
            subject,
            gigabytes(plan.peak_bytes),
            100 * plan.error_share,
            100 * plan.overhead,
            seconds,
        )
    return PlannedBlocks(BlockFollower(plan.block_plan, plan.promise, "error"), seconds)


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_leaf else tensor.detach().requires_grad_(tensor.requires_grad)
