"""`capture`: a model and its inputs become a joint graph, a pebble Graph, and the map between."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.options import Differentiate
from pebble.tracing.attention_kernels import kernels_of
from pebble.tracing.autocast_casts import share_weight_casts
from pebble.tracing.captured import Captured, Loss, State
from pebble.tracing.dropout_draws import split_dropout
from pebble.tracing.fake_metadata import correct_metadata
from pebble.tracing.forward_graph import ForwardGraph
from pebble.tracing.graph_builder import build_graph
from pebble.tracing.joint_cleanup import JointCleanup
from pebble.tracing.model_in_trace import in_trace
from pebble.tracing.plannable import plannable
from pebble.tracing.refusals import (
    attempt,
    check_layouts,
    check_numbers,
    check_side_effects,
    check_sizes,
    tell_side_effects,
)
from pebble.tracing.returned_arguments import restore_returned_arguments
from pebble.tracing.shared_memory import SharedWrite, check_written_alone, naming_views
from pebble.tracing.signature import StepSignature, stands_outside
from pebble.tracing.sparse_gradients import indices_of, write_rows
from pebble.tracing.torch_private.card_tables import is_pretended
from pebble.tracing.torch_private.dynamo import ForwardTrace, trace_forward
from pebble.tracing.torch_private.joint_export import JointTrace, trace_joint
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.storages import storage_bytes
from pebble.tracing.traced_inputs import TracedInputs
from pebble.tracing.traced_output import TracedOutput, read_output

Read = Callable[[ForwardTrace], TracedOutput]


def capture(
    model: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: Loss | None = None,
    loss_only: bool = False,
    differentiate: Differentiate = None,
) -> Captured:
    """Trace one training step of a model; nothing is computed and nothing of the model changes.

    Parameters
    ----------
    model : nn.Module, fx.GraphModule or ExportedProgram
        In the mode it trains in, under the autocast it trains under. Real or fake tensors.
    args, kwargs
        Inputs of the forward, of the shapes to be trained on.
    loss : callable, optional
        From the model's output to a scalar. By default the output's ``.loss``; without one, the
        caller makes a loss of any outputs that need a gradient.
    loss_only : bool
        Every output that is not differentiated is None, so that none has to be held.
    differentiate : "loss", "all" or sequence of str, optional
        The outputs that are differentiated: what the loss reads, every one, or the loss and those
        of these names. Default: the loss, where there is one, else every output that needs a
        gradient.

    Returns
    -------
    Captured

    Raises
    ------
    CaptureError
        If the forward is not one graph of fixed shapes, or nothing in it can be differentiated.
    InvalidArgument
        If the model is none, wrapped (DDP, FSDP, torch.compile), or `loss_only` is asked for with
        a `loss` that reads the output.

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
    model = plannable(model)
    check_loss(loss, loss_only=loss_only)
    named = without_cache(model, kwargs or {})
    tensors = [t for t in tree_leaves((args, named)) if torch.is_tensor(t)]
    _check_card(model, tensors)
    given = storage_bytes(tensors)

    read = reader(loss, differentiate, loss_only=loss_only)
    try:
        captured = _trace(model, TracedInputs.of(model, tuple(args), named), read, loss)
    except SharedWrite:
        inputs = TracedInputs.of(model, tuple(args), named, one_for_same=True)
        captured = _trace(model, inputs, read, loss)
    return replace(captured, loss_only=loss_only, differentiate=differentiate, input_bytes=given)


@dataclass(frozen=True)
class Front:
    """A traced forward, ready to be differentiated, and what it depends on.

    Attributes
    ----------
    traced : ForwardTrace
    output : TracedOutput
    forward : ForwardGraph
    state : State
    """

    traced: ForwardTrace
    output: TracedOutput
    forward: ForwardGraph
    state: State

    @classmethod
    def of(
        cls,
        model: nn.Module,
        inputs: TracedInputs,
        read: Read,
        check: Callable[[ForwardTrace, nn.Module], None] = check_sizes,
    ) -> Front:
        """Trace the forward of a model."""
        traced = attempt("forward", model, lambda: trace_forward(model, inputs.args, inputs.kwargs))
        check(traced, model)
        check_side_effects(traced, model)
        attempt("forward", model, lambda: restore_returned_arguments(traced.graph_module))
        try:
            output = attempt("loss", model, lambda: read(traced))
        finally:
            traced.forget_call()  # a batch is not held for as long as the graph is
        forward = ForwardGraph.of(traced, output, model, inputs)
        device = next((str(t.device) for t in forward.tensors), "cpu")
        training = {name: module.training for name, module in model.named_modules()}
        return cls(traced, output, forward, State(training, _autocast(device), inputs.constants))


def reader(loss: Loss | None, differentiate: Differentiate, *, loss_only: bool) -> Read:
    """What reads the output of a trace as these options say."""

    def read(traced: ForwardTrace) -> TracedOutput:
        return read_output(traced, loss, differentiate, loss_only=loss_only)

    return read


def _trace(model: nn.Module, inputs: TracedInputs, read: Read, loss: Loss | None) -> Captured:
    with in_trace(model):
        front = Front.of(model, inputs, read)
        forward, fake_mode = front.forward, front.traced.fake_mode
        with naming_views(model, zip(inputs.paths, inputs.given)):
            joint = attempt(
                "backward",
                model,
                lambda: trace_joint(forward.graph_module, forward.tensors, fake_mode),
            )
            check_layouts(joint.graph_module, model)
            captured = finish(model, inputs, front, joint, loss)
    tell_side_effects(front.traced, model)  # outside, where warnings are heard
    reads, writes = front.traced.reads.settled(model), front.traced.writes
    check_numbers(reads, writes, model)
    return replace(captured, reads=reads, writes=writes)


def _check_card(model: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
    """Refuse fake tensors on a card that nobody has said the kind of: torch would end the process.

    Raises
    ------
    InvalidArgument
    """
    places = {t.device.type for t in (*model.parameters(), *model.buffers(), *inputs)}
    if "cuda" in places and not (is_pretended() or torch.cuda.is_available()):
        raise InvalidArgument(
            f"This {type(model).__name__} is on cuda, and no card is at hand to say which kernels "
            "it takes there. Say which card is meant: card='t4', for example."
        )


def check_loss(loss: Any, *, loss_only: bool) -> None:
    """Refuse a loss that is no function, or that reads outputs which are not handed over.

    Raises
    ------
    InvalidArgument
    """
    if loss is not None and not callable(loss):
        raise InvalidArgument(
            f"loss is {loss!r}; pass a function from the model's output to a scalar, or None."
        )
    if loss_only and loss is not None:
        raise InvalidArgument(
            "outputs='loss' keeps what the model itself returns as its loss, and a loss function "
            "needs the model's outputs. Pass one of the two: outputs='all', or a model that "
            "computes its own loss."
        )


def without_cache(model: nn.Module, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a call, a Hugging Face model's cache switched off where nothing is said of it."""
    return {**kwargs, **({"use_cache": False} if _has_idle_cache(model, kwargs) else {})}


def _has_idle_cache(model: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    config = getattr(model, "config", None)
    if "use_cache" in kwargs or getattr(config, "use_cache", None) is not True:
        return False
    inner: Any = model
    if hasattr(model, "get_base_model"):  # an adapter around the model
        inner = inner.get_base_model()
    return "use_cache" in inspect.signature(inner.forward).parameters


def finish(
    model: nn.Module, inputs: TracedInputs, front: Front, joint: JointTrace, loss: Loss | None
) -> Captured:
    """The Graph of a traced step, and the map between the two.

    Parameters
    ----------
    inputs : TracedInputs
        Of the sizes of the joint graph.
    joint : JointTrace
        Of fixed sizes; its graph is changed in place.
    """
    forward, output = front.forward, front.output
    cached = share_weight_casts(joint, forward)
    split_dropout(joint.graph_module)
    correct_metadata(joint.graph_module)
    step = JointCleanup(forward, joint, output, write_rows(joint, model))
    step.tidy()
    check_written_alone(model, zip(inputs.paths, inputs.given), step.slots, step.outputs)
    built = build_graph(
        step.module,
        StepSignature.of(
            step.slots, step.tangents, step.outputs, step.gradients, indices_of(step.sparse)
        ),
        name=type(model).__name__,
        loss_outside=stands_outside(loss, step.tangents),
    )
    return Captured(
        joint=step.module,
        **vars(built),
        slots=tuple(step.slots),
        outputs=tuple(step.outputs),
        gradients=step.gradients,
        sparse=step.sparse,
        tangents=tuple(step.tangents),
        template=output.template,
        state=replace(front.state, casts_cached=cached),
        loss=loss,
        fake=inputs.fake,
        device=next((str(t.device) for t in forward.tensors), "cpu"),
        kernels=kernels_of(step.module.graph),
    )


def _autocast(device: str) -> tuple[tuple[str, bool, torch.dtype], ...]:
    kinds = dict.fromkeys(("cpu", torch.device(device).type))
    return tuple((k, torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds)
