"""`capture`: a model and its inputs become a joint graph, a pebble Graph, and the map between."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from pebble.errors import CaptureError, InvalidArgument, PebbleError
from pebble.graph import Graph
from pebble.tracing.dropout_draws import split_dropout
from pebble.tracing.fake_metadata import correct_metas
from pebble.tracing.forward import Loss, StepGraph, TracedInputs, TracedOutput, read_output
from pebble.tracing.graph_builder import wire
from pebble.tracing.hidden_state_recorders import recorders_in_place
from pebble.tracing.joint_cleanup import Reader
from pebble.tracing.output_templates import put_together
from pebble.tracing.refusals import explain
from pebble.tracing.signature import Output, OutputKind, Slot, SlotKind
from pebble.tracing.torch_private.dynamo import ForwardTrace, trace_forward
from pebble.tracing.torch_private.joint_export import JointTrace, trace_joint
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.quiet_capture import quiet_capture
from pebble.tracing.torch_private.storages import storage_bytes

__all__ = ["Captured", "Output", "OutputKind", "Slot", "SlotKind", "State", "capture"]

logger = logging.getLogger("pebble")


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
    """

    training: Mapping[str, bool]
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    constants: Mapping[str, Any]


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
    accumulates : bool
        Whether gradients are added to those that are there (see `pebble.tracing.accumulation`).
    input_bytes : int or None
        Of the inputs, each storage once: token ids are often their own labels. None: unknown.
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
    accumulates: bool = False
    input_bytes: int | None = None

    def rebuild(self, tensors: Sequence[Any]) -> Any:
        """The object that the model returns, from its tensors.

        Parameters
        ----------
        tensors : sequence
            One per differentiable and plain output, in the order of `outputs`.
        """
        return put_together(self.template, tensors)


def capture(
    model: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: Loss | None = None,
    loss_only: bool = False,
) -> Captured:
    """Trace one training step of a model; nothing is computed and nothing of the model changes.

    Parameters
    ----------
    model : nn.Module, fx.GraphModule or ExportedProgram
        In the mode it trains in, under the autocast it trains under. Real or fake tensors.
    args, kwargs
        Inputs of the forward, of the shapes to be trained on.
    loss : callable, optional
        From the model's output to a scalar. By default the output's ``.loss``, else the first
        tensor of the output that needs a gradient: itself if it is a scalar, else its sum.
        Every other tensor of the output is detached.
    loss_only : bool
        Every other tensor of the output is None instead, so that none has to be held.

    Returns
    -------
    Captured

    Raises
    ------
    CaptureError
        If the forward is not one graph of fixed shapes, or nothing in it can be differentiated.
    InvalidArgument
        If the model is none, or `loss_only` is asked for with a `loss` that reads the output.

    Notes
    -----
    A Hugging Face model whose configuration says ``use_cache`` is captured without its cache,
    which training does not need, unless `kwargs` say otherwise.

    Examples
    --------
    >>> import torch
    >>> captured = capture(torch.nn.Linear(4, 2), (torch.ones(3, 4),))
    >>> [slot.name for slot in captured.slots], captured.graph.boundary
    (['weight', 'bias', 'args[0]'], 1)
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        raise InvalidArgument(
            f"The model is a {type(model).__name__}; pass a torch.nn.Module, a "
            "torch.fx.GraphModule or a torch.export.ExportedProgram."
        )
    if loss_only and loss is not None:
        raise InvalidArgument(
            "outputs='loss' keeps what the model itself returns as its loss, and a loss function "
            "needs the model's outputs. Pass one of the two: outputs='all', or a model that "
            "computes its own loss."
        )
    named = dict(kwargs or {})
    given = storage_bytes(t for t in tree_leaves((args, named)) if torch.is_tensor(t))
    if _has_idle_cache(model, named):
        named["use_cache"] = False
    inputs = TracedInputs.of(model, tuple(args), named)
    with quiet_capture(), recorders_in_place(model):
        traced = _attempt(
            "forward", model, lambda: trace_forward(model, inputs.args, inputs.kwargs)
        )
        _check_sizes(traced, model)
        _check_side_effects(traced, model)
        chosen = _attempt("loss", model, lambda: read_output(traced, loss, loss_only=loss_only))
        step = StepGraph.of(traced, chosen, model, inputs)
        joint = _attempt(
            "backward",
            model,
            lambda: trace_joint(step.graph_module, step.tensors, traced.fake_mode),
        )
        captured = _finish(model, inputs, step, joint, chosen, loss)
        return replace(captured, loss_only=loss_only, input_bytes=given)


def _attempt(what: str, model: nn.Module, trace: Callable[[], Any]) -> Any:
    try:
        return trace()
    except PebbleError:
        raise
    except Exception as error:
        reason, where = explain(error)
        place = f" at {where}" if where else ""
        raise CaptureError(
            f"The {what} of {type(model).__name__} cannot be traced into one graph{place}: "
            f"{reason}. {_advice(model, error)}"
        ) from error


def _check_sizes(traced: ForwardTrace, model: nn.Module) -> None:
    if traced.symbol is not None:
        raise CaptureError(
            f"The forward of {type(model).__name__} makes a number or size that depends on data"
            f"{f' at {traced.symbol}' if traced.symbol else ''}. A plan holds for fixed shapes: "
            "keep the number in a tensor (no .item()), and use torch.where or a mask in place of "
            "boolean indexing and nonzero."
        )


def _check_side_effects(traced: ForwardTrace, model: nn.Module) -> None:
    if any("._buffers" in place or "._parameters" in place for place in traced.side_effects):
        raise CaptureError(
            f"The forward of {type(model).__name__} assigns a new tensor to a buffer or parameter, "
            "which a traced step cannot repeat. Write into the tensor instead: "
            "self.buffer.copy_(new) in place of self.buffer = new."
        )
    if traced.side_effects:
        logger.warning(
            "The forward of %s changes Python state (%s), which a planned step does not.",
            type(model).__name__,
            ", ".join(traced.side_effects),
        )


def _advice(model: nn.Module, error: Exception) -> str:
    if isinstance(error, TypeError):
        return "Check that the model runs on these inputs."
    if hasattr(model, "_orig_mod"):
        return "Pass the model as it was before torch.compile (its _orig_mod)."
    if any(isinstance(m, nn.RNNBase) for m in model.modules()):
        return (
            "torch does not trace nn.RNN, nn.LSTM and nn.GRU; write the recurrence with "
            "nn.LSTMCell or nn.GRUCell, or plan the rest of the model."
        )
    if any(getattr(m, "gradient_checkpointing", False) is True for m in model.modules()):
        return (
            "Switch the model's own gradient checkpointing off first "
            "(model.gradient_checkpointing_disable()): pebble decides what is recomputed."
        )
    return (
        "Make this line free of data-dependent Python (torch.where for if, fixed shapes, no "
        ".item()), or plan the part of the model without it."
    )


def _has_idle_cache(model: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    config = getattr(model, "config", None)
    if "use_cache" in kwargs or getattr(config, "use_cache", None) is not True:
        return False
    inner: Any = model
    if hasattr(model, "get_base_model"):  # an adapter around the model
        inner = inner.get_base_model()
    return "use_cache" in inspect.signature(inner.forward).parameters


def _finish(
    model: nn.Module,
    inputs: TracedInputs,
    step: StepGraph,
    joint: JointTrace,
    choice: TracedOutput,
    loss: Loss | None,
) -> Captured:
    split_dropout(joint.graph_module)
    correct_metas(joint.graph_module)
    ends = Reader(step, joint, choice)
    ends.tidy()
    outside = loss is not None or any(slot.node.meta["val"].dim() for slot in ends.tangents)
    parts = wire(ends.module, ends.ends(), name=type(model).__name__, loss_outside=outside)
    device = next((str(t.device) for t in step.tensors), "cpu")
    return Captured(
        joint=ends.module,
        graph=parts.graph,
        op_nodes=parts.op_nodes,
        value_of=parts.value_of,
        views=parts.views,
        value_source=parts.value_source,
        slots=tuple(ends.slots),
        outputs=tuple(ends.outputs),
        gradients=ends.gradients,
        tangents=tuple(ends.tangents),
        template=choice.template,
        state=State(
            {name: module.training for name, module in model.named_modules()},
            _autocast(device),
            inputs.constants,
        ),
        loss=loss,
        fake=inputs.fake,
        device=device,
    )


def _autocast(device: str) -> tuple[tuple[str, bool, torch.dtype], ...]:
    kinds = dict.fromkeys(("cpu", torch.device(device).type))
    return tuple((k, torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds)
