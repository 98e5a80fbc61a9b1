"""Whose kernels a plan is for, in words."""

from __future__ import annotations

from collections.abc import Mapping

from pebble.budget import Resident
from pebble.cards import CARDS
from pebble.formatting import count, gigabytes
from pebble.graph import Graph
from pebble.record import StepRecord


def kernels_text(record: StepRecord, graph: Graph, resident: Resident) -> str:
    """The card, its kernels, and what of their bytes is taken from tables; empty without a card."""
    if record.card is None:
        return ""
    card = CARDS[record.card]
    major, minor = card.capability
    attentions = attentions_text(record.kernels)
    libraries = resident.kinds.get("library workspace", 0)
    most = int(graph.arrays.workspace.max(initial=0))
    return (
        f"Kernels of the {card.title} (compute capability {major}.{minor}) in {record.precision}: "
        f"{attentions}. Taken from tables, not measured on a card: {gigabytes(libraries)} for "
        f"cuBLAS, up to {gigabytes(most)} inside a kernel; cuDNN's for convolutions are not "
        "counted."
    )


def attentions_text(kernels: Mapping[str, int]) -> str:
    """Which kernels compute the attentions of a step.

    Examples
    --------
    >>> attentions_text({"flash": 12, "math": 1}), attentions_text({})
    ('12 attentions by flash and 1 by math', 'no attention')
    """
    parts = [f"{n} by {name}" for name, n in kernels.items()]
    if not parts:
        return "no attention"
    first, how = next(iter(kernels.items()))
    parts[0] = f"{count(how, 'attention')} by {first}"
    return " and ".join(parts)
