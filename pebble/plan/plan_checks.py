"""What a plan's data claim, held against the replay; sizes, before anything is allocated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from pebble.budget import Unplanned
from pebble.errors import PlanFormatError
from pebble.graph import Graph
from pebble.plan.cap import Cap
from pebble.schedule import Schedule
from pebble.schema import check_data

MOST_EVENTS = 5_000_000
"""Reads and results in a schedule; the replay keeps some ten numbers for each of them."""


@dataclass(frozen=True)
class Claims:
    """What a plan's data say of it, and the referee can tell.

    Attributes
    ----------
    fingerprint : str
    budget_bytes, graph_budget : int
        For the whole step, and what is left of it for the graph.
    peak_bytes, cost : int
    lower_bound : int
    unchunked : Unplanned or None
        Of another graph than the plan's, so nothing here can replay it.
    cap : Cap
    """

    fingerprint: str
    budget_bytes: int
    graph_budget: int
    peak_bytes: int
    cost: int
    lower_bound: int
    unchunked: Unplanned | None
    cap: Cap

    @classmethod
    def of(cls, data: Any) -> Claims:
        """Those of a plan's data, once their form is checked.

        Raises
        ------
        PlanFormatError
            If an entry is missing or has a type or a value that it cannot have.
        """
        check_data(data, _plan_form, what="Its form is wrong", error=PlanFormatError)
        return cls(
            data["fingerprint"],
            int(data["budget_bytes"]),
            int(data["graph_budget"]),
            data["predicted_peak_bytes"],
            data["predicted_cost"],
            int(data["lower_bound"]),
            Unplanned(**data["unchunked"]) if data.get("unchunked") else None,
            Cap.of(data.get("cap")),
        )

    def check(self, fingerprint: str, graph_budget: int, peak_bytes: int, cost: int) -> None:
        """Refuse data that say anything else than the replay.

        Raises
        ------
        PlanFormatError
            Names what is said and what is so.
        """
        if self.fingerprint != fingerprint:
            raise PlanFormatError("Its graph does not have its fingerprint.")
        for what, said, found in (
            ("a budget for the graph", self.graph_budget, graph_budget),
            ("a peak", self.peak_bytes, peak_bytes),
            ("a cost", self.cost, cost),
        ):
            if said != found:
                raise PlanFormatError(f"It claims {what} of {said}; its schedule has {found}.")
        if self.lower_bound > cost:
            raise PlanFormatError(
                f"It claims that no plan costs less than {self.lower_bound}; its own costs {cost}."
            )
        whole = self.unchunked
        if whole and max(whole.saved_bytes, whole.floor_bytes) > whole.peak_bytes:
            raise PlanFormatError("Its step with the loss in one piece keeps more than its peak.")
        if peak_bytes > self.budget_bytes:
            raise PlanFormatError(
                f"Its peak of {peak_bytes} bytes is above its budget of {self.budget_bytes}."
            )

    def check_held(self, held_bytes: int) -> None:
        """Refuse a plan whose card reserves more than its budget.

        Raises
        ------
        PlanFormatError
        """
        if held_bytes > self.budget_bytes:
            raise PlanFormatError(
                f"A card reserves {held_bytes} bytes for it, above its budget of "
                f"{self.budget_bytes}."
            )


def check_length(graph: Graph, schedule: Schedule) -> None:
    """Refuse a schedule whose replay would take memory out of proportion.

    Raises
    ------
    PlanFormatError
    """
    touched = {i: len(op.inputs) + len(op.outputs) for i, op in enumerate(graph.ops)}
    events = sum(touched.get(i, 0) for i in schedule)
    if events > MOST_EVENTS:
        raise PlanFormatError(
            f"Its schedule reads and makes {events:,} values; a replay takes {MOST_EVENTS:,}."
        )


def check_recorded_inputs(inputs: Any, budget_bytes: int, resident: Mapping[str, int]) -> None:
    """Refuse recorded inputs that no step of this plan can have had.

    Tensors of their shapes are made when the plan is applied, so they are checked before.

    Parameters
    ----------
    inputs : object
        As in a plan file.
    budget_bytes : int
        Of the plan; a tensor with data for each element is within it.
    resident : mapping
        Bytes by kind; no tensor's storage is larger than that of the inputs.

    Raises
    ------
    PlanFormatError
    """
    storage_limit = resident.get("inputs", budget_bytes)
    tensors = 0
    for item in _objects(inputs):
        if "tensor" in item:
            check_data(item, _tensor_form, what="An input is damaged", error=PlanFormatError)
            shape, stride, size = item["tensor"], item["stride"], _itemsize(item["dtype"])
            if len(shape) != len(stride):
                raise PlanFormatError(
                    f"An input has {len(shape)} dimensions and {len(stride)} strides."
                )
            elements = prod(shape)
            extent = 1 + sum((n - 1) * step for n, step in zip(shape, stride)) if elements else 0
            if elements * size > budget_bytes or extent * size > storage_limit:
                raise PlanFormatError(
                    f"An input of {elements} elements is larger than all inputs of its step "
                    f"({storage_limit} bytes)."
                )
            tensors += 1
        elif "same_as" in item and not (
            type(item["same_as"]) is int and 0 <= item["same_as"] < tensors
        ):
            raise PlanFormatError("An input is the same as one that does not come before it.")


def _objects(item: Any) -> Iterator[Mapping[str, Any]]:
    """Every object inside recorded inputs, in their order."""
    ahead = [item]
    while ahead:
        item = ahead.pop()
        if isinstance(item, Mapping):
            yield item
            ahead += reversed(list(item.values()))
        elif isinstance(item, (list, tuple)):
            ahead += reversed(item)


def _itemsize(dtype: str) -> int:
    """Bytes of an element, from a dtype's name.

    Examples
    --------
    >>> _itemsize("bfloat16"), _itemsize("bool"), _itemsize("float8_e4m3fn")
    (2, 1, 1)
    """
    bits = re.search(r"\d+", dtype)
    return max(int(bits[0]) // 8, 1) if bits and len(bits[0]) < 4 else 1


def _plan_form() -> Any:
    from pebble.plan.plan_schema import PlanForm

    return PlanForm


def _tensor_form() -> Any:
    from pebble.record_schema import TensorForm

    return TensorForm
