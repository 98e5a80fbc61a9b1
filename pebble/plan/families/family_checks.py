"""The form of a family's data, checked before anything is built from them."""

from __future__ import annotations

from typing import Any

from pebble.errors import PlanFormatError
from pebble.plan.plan_checks import MOST_EVENTS
from pebble.schema import check_data


def check_family(data: Any) -> None:
    """Refuse data that are no family.

    Raises
    ------
    PlanFormatError
        If an entry is missing, has a type or a value that it cannot have, or the numbers of
        polynomials, values and ops do not agree.
    """
    check_data(data, _family_form, what="Its form is wrong", error=PlanFormatError)
    step, graph = data["step"], data["step"]["graph"]
    powers = len(step["powers"])
    for name, wanted in (
        ("sizes", len(graph["values"])),
        ("workspaces", len(graph["ops"])),
        ("costs", len(graph["ops"])),
        ("resident", len(step["kinds"]) + 1),
    ):
        rows, which = step[name]["coefficients"], step[name]["which"]
        if len(which) != wanted or any(not 0 <= k < len(rows) for k in which):
            raise PlanFormatError(f"Its {name} are {len(which)} numbers; its graph has {wanted}.")
        if any(len(row) != powers for row in rows):
            raise PlanFormatError(f"Its {name} are not made of its {powers} products.")
    touched = [len(op.get("inputs", ())) + len(op.get("outputs", ())) for op in graph["ops"]]
    for order in data["schedules"]:
        if sum(touched[i] for i in order if 0 <= i < len(touched)) > MOST_EVENTS:
            raise PlanFormatError("One of its schedules is too long to be replayed.")


def _family_form() -> Any:
    from pebble.plan.families.family_schema import FamilyForm

    return FamilyForm
