"""What is told of a loss that nobody named: a budget with no room for it may not be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pebble.errors import BudgetNotKept
from pebble.formatting import gigabytes
from pebble.notices import warn
from pebble.referee import Trace
from pebble.schedule import Schedule

if TYPE_CHECKING:
    from pebble.measure.step import Step

_COPIES = 3
"""Of what it reads, in full precision, beside the gradient that it hands over: a cross entropy
keeps its log-softmax and makes one gradient; the backward of ``y.square().mean()`` holds the
mean's gradient, y to the power of one, and twice that."""
_FULL_PRECISION_BYTES = 4


def tell_unnamed_loss(step: Step, schedule: Schedule, trace: Trace, budget_bytes: int) -> bool:
    """Warn where the caller computes a loss that the plan knows nothing of and has no room for.

    Returns
    -------
    bool
        Whether there was something to tell.
    """
    needed = unnamed_loss_bytes(step)
    room = _room(step, schedule, trace, budget_bytes)
    if room < needed:
        warn(
            f"The loss on the output of this {step.record.model} is computed outside the plan and "
            f"is not counted: it may hold {gigabytes(needed)}, and the budget has "
            f"{gigabytes(max(room, 0))} left while it runs. Pass it as loss=, a function of the "
            "model's output.",
            BudgetNotKept,
        )
    return room < needed


def has_room_for_loss(step: Step, schedule: Schedule, trace: Trace, budget_bytes: int) -> bool:
    """Whether a loss that nobody named has room within the budget between the halves of a step."""
    return unnamed_loss_bytes(step) <= _room(step, schedule, trace, budget_bytes)


def unnamed_loss_bytes(step: Step) -> int:
    """What a loss outside the plan may hold; 0 where it is inside."""
    if step.captured.loss is not None or step.graph.boundary is None:
        return 0
    outputs = [slot.node.meta["val"] for slot in step.captured.tangents]
    return sum(
        _COPIES * t.numel() * max(t.itemsize, _FULL_PRECISION_BYTES) for t in outputs if t.dim()
    )


def _room(step: Step, schedule: Schedule, trace: Trace, budget_bytes: int) -> int:
    boundary = step.graph.boundary
    if boundary is None:
        return budget_bytes
    during = int(trace.live[schedule.order.index(boundary)])
    return budget_bytes - step.resident.total - during
