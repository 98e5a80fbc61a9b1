"""`explain`: why a plan is as it is, what memory is worth to it, and what else would buy."""

from __future__ import annotations

from pebble.arguments import check_time_limit
from pebble.deadline import Deadline
from pebble.errors import InvalidArgument
from pebble.finetune.budget_prices import budget_prices
from pebble.finetune.module_explanations import explain_modules
from pebble.finetune.plan_changes import Changes, plan_changes
from pebble.plan.explanation import Explanation
from pebble.plan.module_explanation import ModuleExplanation
from pebble.plan.module_plan import ModulePlan
from pebble.plan.module_shares import module_shares
from pebble.plan.peak_moment import peak_moment
from pebble.plan.plan import Plan
from pebble.progress import progress_line

_FOR_PRICES = 0.25
"""Of the time."""
_PRICE_SECONDS = 8.0


def explain(
    plan: Plan | ModulePlan, *, time_limit: float = 30.0, display: bool | None = None
) -> Explanation | ModuleExplanation:
    """Why a plan is as it is, what a little more or less memory is worth, and what else would buy.

    Parameters
    ----------
    plan : Plan or ModulePlan
        From `pebble.optimize`; of one that comes from a file, what needs the model is left out. Of
        a module-level plan the measured calls of its blocks are told, and nothing is searched.
    time_limit : float
        Seconds for the whole call: for plans within other budgets and of other ways to train.
        Those that it has no time for are named.
    display : bool, optional
        Show progress; default: on a terminal and in a notebook.

    Returns
    -------
    Explanation, or ModuleExplanation of a module-level plan
        `print` shows it.

    Raises
    ------
    InvalidArgument
        If this is no plan of a whole step.

    Examples
    --------
    >>> import torch, pebble
    >>> net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(4)])
    >>> plan = pebble.optimize(net, torch.ones(256, 64), budget_bytes=620_000, optimizer="sgd")
    >>> pebble.explain(plan, time_limit=1).peak.peak_bytes == plan.peak_bytes
    True
    """
    deadline = Deadline(check_time_limit(time_limit))
    if isinstance(plan, ModulePlan):
        return explain_modules(plan)
    if not isinstance(plan, Plan):
        raise InvalidArgument(
            f"explain takes a Plan, not a {type(plan).__name__}; pass what pebble.optimize or "
            "pebble.load_plan returned."
        )
    with progress_line(display, "explain", time_limit) as line:
        line.part("prices of more and less memory")
        share = 1.0 if plan.step is None else _FOR_PRICES
        less, more = budget_prices(plan, min(deadline.share(share), _PRICE_SECONDS))
        changes = Changes(skipped=("what needs the model: this plan comes from a file",))
        if plan.step is not None:
            changes = plan_changes(plan, deadline, line.part)
        view = plan.view
        line.result(f"{len(changes.tried)} other ways to train compared")
        return Explanation(
            model=plan.record.model,
            budget_bytes=plan.budget_bytes,
            overhead=plan.overhead,
            peak=peak_moment(view),
            memory=plan.memory,
            shares=module_shares(view),
            less=less,
            more=more,
            changes=changes.tried,
            skipped=changes.skipped,
        )
