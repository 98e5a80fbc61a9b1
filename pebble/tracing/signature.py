"""What a joint graph is given and what it hands over; what that means for lifetimes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import fx


class SlotKind(StrEnum):
    """Where the tensor of a slot comes from."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    INPUT = "input"
    CONSTANT = "constant"
    TANGENT = "tangent"


class OutputKind(StrEnum):
    """What becomes of a forward output; CUT: it has a gradient in eager, but not in the step."""

    DIFFERENTIABLE = "differentiable"
    PLAIN = "plain"
    CUT = "cut"
    BUFFER_UPDATE = "buffer_update"
    INPUT_UPDATE = "input_update"


# by the caller of the model
HELD = frozenset((OutputKind.DIFFERENTIABLE, OutputKind.PLAIN, OutputKind.CUT))


@dataclass(frozen=True)
class Slot:
    """A tensor that the joint graph is given.

    Attributes
    ----------
    kind : SlotKind
    name : str
        Name of the parameter or buffer in the model, or path of the input, such as ``args[0]``.
    node : fx.Node
        A placeholder; a ``get_attr`` node for a constant.
    aliases : tuple of str
        Other names of the same tensor (tied weights).
    place : int or None
        Where a constant that a step looks up is found; see `pebble.tracing.python_reads`.
    """

    kind: SlotKind
    name: str
    node: fx.Node
    aliases: tuple[str, ...] = ()
    place: int | None = None

    @property
    def fed(self) -> bool:
        """Whether a step is given the tensor at every call; else it is part of the graph."""
        return self.node.op == "placeholder" or self.place is not None


@dataclass(frozen=True)
class Output:
    """A forward output of the joint graph.

    Attributes
    ----------
    kind : OutputKind
    name : str
        Its path in the model's output, or the name of the slot whose contents it replaces.
    node : fx.Node
    """

    kind: OutputKind
    name: str
    node: fx.Node


@dataclass(frozen=True)
class StepSignature:
    """What a step is given and hands over, as the lifetimes of its values need it.

    Attributes
    ----------
    inputs : tuple of fx.Node
        Placeholders and constants that are there before the step.
    tangents : tuple of fx.Node
    handed : tuple of fx.Node
        Forward outputs, updates included.
    kept : frozenset of fx.Node
        Forward outputs that the caller holds.
    gradients : tuple of fx.Node
    overwritten : frozenset of fx.Node
        Inputs whose contents the step replaces at the boundary.
    """

    inputs: tuple[fx.Node, ...]
    tangents: tuple[fx.Node, ...]
    handed: tuple[fx.Node, ...]
    kept: frozenset[fx.Node]
    gradients: tuple[fx.Node, ...]
    overwritten: frozenset[fx.Node]

    @classmethod
    def of(
        cls,
        slots: Sequence[Slot],
        tangents: Iterable[Slot],
        outputs: Sequence[Output],
        gradients: Mapping[fx.Node, fx.Node | None],
        indices: Sequence[fx.Node] = (),
    ) -> StepSignature:
        """The signature of a step: what it is given, what it hands over, and its gradients.

        Those of sparse gradients are their rows; `indices` stay with them.
        """
        return cls(
            inputs=tuple(slot.node for slot in slots),
            tangents=tuple(slot.node for slot in tangents),
            handed=tuple(output.node for output in outputs),
            kept=frozenset(output.node for output in outputs if output.kind in HELD),
            gradients=(*(g for g in gradients.values() if g is not None), *indices),
            overwritten=overwritten_inputs(slots, outputs),
        )


def overwritten_inputs(slots: Iterable[Slot], outputs: Iterable[Output]) -> frozenset[fx.Node]:
    """The inputs whose contents a step replaces."""
    updated = {output.name for output in outputs if output.kind not in HELD}
    return frozenset(slot.node for slot in slots if slot.name in updated)


def stands_outside(loss: object, tangents: Iterable[Slot]) -> bool:
    """Whether the caller computes the loss: with a function of its own, or as a sum."""
    shapes = [slot.node.meta["val"].shape for slot in tangents]
    return loss is not None or len(shapes) > 1 or any(len(shape) for shape in shapes)


def results_of(graph: fx.Graph) -> list[Any]:
    """What a graph returns: nodes, or None."""
    results: Any = graph.output_node().args[0]
    return list(results)
