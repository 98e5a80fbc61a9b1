"""When a step is planned module by module: because it was asked for, or in place of a graph."""

from __future__ import annotations

import logging
from typing import Any

from pebble.errors import CaptureError, InvalidArgument
from pebble.options import RESERVED, StepOptions
from pebble.plan.module_plan import ModulePlan
from pebble.plan.search import PlanSearch

logger = logging.getLogger("pebble")
LEVELS = ("auto", "graph", "module")


def module_plan(
    model: Any, inputs: Any, options: StepOptions, search: PlanSearch, *, reason: str = ""
) -> ModulePlan:
    """The module-level plan that was asked for.

    Raises
    ------
    InvalidArgument
        If an option was asked for that only a graph can have.
    """
    from pebble.plan.module_search import plan_modules

    wanted = _of_graphs(options, search)
    if wanted is not None:
        raise InvalidArgument(
            f"A module-level plan runs the model's own forward and has no {wanted}; leave it out, "
            "or plan with level='graph'."
        )
    return plan_modules(model, inputs, options, search, reason or "level='module' was asked for.")


def module_plan_instead(
    model: Any, inputs: Any, options: StepOptions, search: PlanSearch, refused: CaptureError
) -> ModulePlan:
    """The module-level plan of a model whose graph was refused, where one can be made.

    Raises
    ------
    CaptureError
        The refusal itself, if the forward has no graph for another reason, does not run, or an
        option was asked for that only a graph can have.
    """
    if not refused.breaks_graph or _of_graphs(options, search) is not None:
        raise refused
    try:
        plan = module_plan(model, inputs, options, search, reason=_first_sentence(refused))
    except (CaptureError, InvalidArgument) as error:
        raise refused from error
    logger.warning("Planned module by module. %s", plan.reason)
    return plan


def _of_graphs(options: StepOptions, search: PlanSearch) -> str | None:
    """What was asked for that a step without a graph cannot have."""
    if options.card is not None:
        return "card="
    if options.outputs != "all":
        return "outputs='loss'"
    if search.options.budget_kind == RESERVED:
        return "budget_kind='reserved'"
    if options.differentiate not in (None, "all"):
        return "differentiate="
    if options.costs not in ("auto", "profile"):
        return f"costs={options.costs!r}"
    if isinstance(search.options.chunked_loss, int) and search.options.chunked_loss:
        return f"chunked_loss={search.options.chunked_loss}"
    if search.options.solver != "auto" or search.options.solver_options:
        return "solver or options of one"
    return None


def _first_sentence(refused: CaptureError) -> str:
    return str(refused).partition(". ")[0].rstrip(".") + "."
