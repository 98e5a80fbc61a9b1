"""A module with the budget and the options that a family was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from pebble.errors import InvalidArgument
from pebble.plan.budgeted import budgeted
from pebble.record import DEFAULT_LOSS, StepRecord


def budgeted_again(
    model: nn.Module, record: StepRecord, budget_bytes: int, given: Mapping[str, Any]
) -> nn.Module:
    """A module that plans by itself within a budget, with what a family was made with.

    Parameters
    ----------
    model : nn.Module
    record : StepRecord
        Of the family.
    budget_bytes : int
    given : mapping
        Options of `pebble.budgeted` that are passed besides, or instead.

    Raises
    ------
    InvalidArgument
        If the family was made with a loss that is not passed.
    """
    if record.loss != DEFAULT_LOSS and given.get("loss") is None:
        raise InvalidArgument(
            f"This family was made with the loss function {record.loss!r}; pass it as loss= again."
        )
    own = {
        "costs": "auto" if record.costs == "given" else record.costs,
        "optimizer": record.optimizer,
        "outputs": record.outputs,
        "accumulation_steps": record.accumulation_steps,
        "differentiate": record.differentiate,
    }
    return budgeted(model, budget_bytes=budget_bytes, **{**own, **given})
