"""`capture`: a model and its inputs become a joint graph, a pebble Graph, and the map between."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.tracing.autocast_casts import share_weight_casts
from pebble.tracing.captured import Captured, Loss, State
from pebble.tracing.dropout_draws import split_dropout
from pebble.tracing.fake_metadata import correct_metadata
from pebble.tracing.forward_graph import ForwardGraph
from pebble.tracing.graph_builder import build_graph
from pebble.tracing.hidden_state_recorders import recorders_in_place
from pebble.tracing.joint_cleanup import JointCleanup
from pebble.tracing.plannable import plain_parts, plannable
from pebble.tracing.refusals import (
    attempt,
    check_layouts,
    check_side_effects,
    check_sizes,
    tell_side_effects,
)
from pebble.tracing.returned_arguments import restore_returned_arguments
from pebble.tracing.shared_memory import check_written_alone, naming_views
from pebble.tracing.signature import StepSignature, stands_outside
from pebble.tracing.torch_private.dynamo import trace_forward
from pebble.tracing.torch_private.joint_export import JointTrace, trace_joint
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.quiet_capture import quiet_capture
from pebble.tracing.torch_private.storages import storage_bytes
from pebble.tracing.traced_inputs import TracedInputs
from pebble.tracing.traced_output import TracedOutput, read_output


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
    with quiet_capture(), plain_parts(model), recorders_in_place(model):
        traced = attempt("forward", model, lambda: trace_forward(model, inputs.args, inputs.kwargs))
        check_sizes(traced, model)
        check_side_effects(traced, model)
        attempt("forward", model, lambda: restore_returned_arguments(traced.graph_module))
        output = attempt("loss", model, lambda: read_output(traced, loss, loss_only=loss_only))
        forward = ForwardGraph.of(traced, output, model, inputs)
        with naming_views(model, zip(inputs.paths, inputs.given)):
            joint = attempt(
                "backward",
                model,
                lambda: trace_joint(forward.graph_module, forward.tensors, traced.fake_mode),
            )
            check_layouts(joint.graph_module, model)
            captured = _finish(model, inputs, forward, output, joint, loss)
    tell_side_effects(traced, model)  # outside, where warnings are heard
    return replace(captured, loss_only=loss_only, input_bytes=given)


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
    forward: ForwardGraph,
    output: TracedOutput,
    joint: JointTrace,
    loss: Loss | None,
) -> Captured:
    """The Graph of a traced step, and the map between the two."""
    share_weight_casts(joint, forward)
    split_dropout(joint.graph_module)
    correct_metadata(joint.graph_module)
    step = JointCleanup(forward, joint, output)
    step.tidy()
    check_written_alone(model, zip(inputs.paths, inputs.given), step.outputs)
    built = build_graph(
        step.module,
        StepSignature.of(step.slots, step.tangents, step.outputs, step.gradients),
        name=type(model).__name__,
        loss_outside=stands_outside(loss, step.tangents),
    )
    device = next((str(t.device) for t in forward.tensors), "cpu")
    return Captured(
        joint=step.module,
        **vars(built),
        slots=tuple(step.slots),
        outputs=tuple(step.outputs),
        gradients=step.gradients,
        tangents=tuple(step.tangents),
        template=output.template,
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
