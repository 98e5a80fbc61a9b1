"""`Captured`: a training step as a graph, and the way back to the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from pebble.graph import Graph
from pebble.options import Differentiate
from pebble.tracing.output_templates import put_together
from pebble.tracing.python_reads import PythonReads
from pebble.tracing.python_writes import PythonWrites
from pebble.tracing.signature import Output, Slot
from pebble.tracing.sparse_gradients import SparseGradient

Loss = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class State:
    """What a capture depends on besides shapes.

    Attributes
    ----------
    training : mapping of str to bool
        Mode of every module, by name; the model itself is ``""``.
    autocast : tuple of (device type, enabled, dtype)
    constants : mapping of str to object
        Inputs that are no tensors, by path: they are part of the graph.
    casts_cached : bool or None
        Whether the surroundings keep cast weights; None where that changes no number, since no
        weight is cast more than once.
    """

    training: Mapping[str, bool]
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    constants: Mapping[str, Any]
    casts_cached: bool | None = None


@dataclass(frozen=True)
class Captured:
    """A training step as a graph, and the way back to the model.

    Attributes
    ----------
    joint : fx.GraphModule
        Functional aten graph, forward and backward, static shapes. Not to be changed.
    graph : Graph
        Costs 1 and workspaces 0, to be measured.
    op_nodes : tuple of tuple of fx.Node
        Op index -> the nodes it executes: the computing node, then its getitems. Empty for the
        boundary op, which stands for the user's loss.
    value_of : mapping
        Every node that is a tensor -> the index of its storage's value.
    views : frozenset of fx.Node
        Nodes that make a view of an existing storage; they belong to no op.
    value_source : tuple of fx.Node
        Value index -> the node that first makes the storage or brings it in.
    slots : tuple of Slot
        Parameters, buffers and inputs in the order of the placeholders, then constants.
    outputs : tuple of Output
    gradients : mapping
        Node of every slot that requires a gradient -> its gradient's node, None without one.
    tangents : tuple of Slot
        One per differentiable output, in their order.
    template : object
        Skeleton of the model's output; see `rebuild`.
    state : State
    loss : callable or None
    fake : bool
        Whether the model or its inputs have no data.
    device : str
    chunks : int
        Into how many parts the head and the loss are split (see `pebble.tracing.chunked_loss`);
        0: not at all.
    whole : Captured or None
        The capture before that split.
    loss_only : bool
        Whether the step hands over nothing of the model's output but the loss.
    differentiate : "loss", "all", sequence of str or None
        The outputs that were asked to be differentiated.
    accumulates : bool
        Whether gradients are added to those that are there (see `pebble.tracing.accumulation`).
    input_bytes : int or None
        Of the inputs, each storage once: token ids are often their own labels. None: unknown.
    reads : PythonReads
        The Python state that the graph depends on.
    writes : PythonWrites
        The attributes that the forward sets; their tensors come with the output.
    sparse : mapping
        Node of every slot whose gradient is sparse -> what makes it of the rows in `gradients`.
    card : str or None
        The card that the step was traced for without being on it.
    kernels : mapping of str to int
        How many attentions of the forward each kernel computes.
    """

    joint: fx.GraphModule = field(repr=False)
    graph: Graph
    op_nodes: tuple[tuple[fx.Node, ...], ...] = field(repr=False)
    value_of: Mapping[fx.Node, int] = field(repr=False)
    views: frozenset[fx.Node] = field(repr=False)
    value_source: tuple[fx.Node, ...] = field(repr=False)
    slots: tuple[Slot, ...] = field(repr=False)
    outputs: tuple[Output, ...] = field(repr=False)
    gradients: Mapping[fx.Node, fx.Node | None] = field(repr=False)
    tangents: tuple[Slot, ...] = field(repr=False)
    template: Any = field(repr=False)
    state: State = field(repr=False)
    loss: Loss | None
    fake: bool
    device: str
    chunks: int = 0
    whole: Captured | None = field(default=None, repr=False)
    loss_only: bool = False
    differentiate: Differentiate = None
    accumulates: bool = False
    input_bytes: int | None = None
    reads: PythonReads = field(default_factory=PythonReads, repr=False)
    writes: PythonWrites = field(default_factory=PythonWrites, repr=False)
    sparse: Mapping[fx.Node, SparseGradient] = field(default_factory=dict, repr=False)
    card: str | None = None
    kernels: Mapping[str, int] = field(default_factory=dict)

    def rebuild(self, tensors: Sequence[Any]) -> Any:
        """The object that the model returns, from its tensors.

        Parameters
        ----------
        tensors : sequence
            One per differentiable and plain output, in the order of `outputs`.
        """
        made = put_together(self.template, tensors)
        return made.output if self.writes.writes else made
