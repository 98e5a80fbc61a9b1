"""What a joint graph is given and what it hands over."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import fx


class SlotKind(StrEnum):
    """Where the tensor of a slot comes from."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    INPUT = "input"
    CONSTANT = "constant"
    TANGENT = "tangent"


class OutputKind(StrEnum):
    """What becomes of a forward output."""

    DIFFERENTIABLE = "differentiable"
    PLAIN = "plain"
    BUFFER_UPDATE = "buffer_update"
    INPUT_UPDATE = "input_update"


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
    """

    kind: SlotKind
    name: str
    node: fx.Node
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A forward output of the joint graph: `name` is its path in the model's output, or the name
    of the slot whose contents it replaces.
    """

    kind: OutputKind
    name: str
    node: fx.Node
