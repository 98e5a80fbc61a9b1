"""What a graph is made of: ops that compute, values that occupy memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """The half of a training step that an op belongs to in the un-planned step."""

    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Op:
    """One computation.

    Parameters
    ----------
    name : str
        Unique in its graph.
    cost : int
        Time of one execution, in nanoseconds (any integer unit for abstract graphs).
    inputs, outputs : tuple of int
        Indices of the values that are read and made. An op may make several values.
    workspace : int
        Bytes that exist only while the op runs.
    phase : Phase
        Where the un-planned step runs it.
    recomputable : bool
        Whether it may run more than once (a random draw or a collective may not).
    kind : str
        What it computes, such as ``aten.mm.default``; part of the fingerprint.
    module : str
        Path of the module it comes from, such as ``transformer.h.0.mlp``.
    source : str
        The line of Python it comes from, such as ``model.py:12: x = x + self.mlp(x)``; a label
        that takes no part in comparisons.
    """

    name: str
    cost: int
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    workspace: int = 0
    phase: Phase = Phase.FORWARD
    recomputable: bool = True
    kind: str = ""
    module: str = ""
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Value:
    """One storage. Views of a storage are the same value.

    Parameters
    ----------
    name : str
        Unique in its graph.
    size : int
        Bytes.
    external : bool
        Parameters and inputs: made by no op, always there, not on the meter of the schedule.
    pinned : bool
        An output of the step: its first copy lives to the end of the step. Executing its
        producer again makes a duplicate that dies in the same step.
    spec : str
        Dtype and shape, such as ``f32[8, 512]``; part of the fingerprint.
    """

    name: str
    size: int
    external: bool = False
    pinned: bool = False
    spec: str = ""
