"""The tensors that a captured step is given: of the model, of a call, and its constants."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import torch
from torch import fx, nn

from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs
from pebble.tracing.signature import SlotKind
from pebble.tracing.torch_private.autograd import below_autograd
from pebble.tracing.torch_private.pytree import call_leaves


def slot_tensors(
    captured: Captured, model: nn.Module, inputs: Inputs
) -> dict[fx.Node, torch.Tensor] | None:
    """The tensor of every slot's node; None if one of them is not at hand.

    Parameters
    ----------
    captured : Captured
    model : nn.Module
        What was captured.
    inputs : Inputs
        Of the model.
    """
    named: dict[tuple[SlotKind, str], object] = {
        (SlotKind.INPUT, path): leaf
        for path, leaf in call_leaves(inputs.args, dict(inputs.kwargs))[0]
    }
    for name, parameter in model.named_parameters(remove_duplicate=False):
        named[SlotKind.PARAMETER, name] = parameter
    for name, buffer in model.named_buffers(remove_duplicate=False):
        named[SlotKind.BUFFER, name] = buffer
    found: dict[fx.Node, torch.Tensor] = {}
    for slot in captured.slots:
        if slot.kind is SlotKind.CONSTANT:
            tensor = attrgetter(str(slot.node.target))(captured.joint)
        else:
            tensor = named.get((slot.kind, slot.name))
        like = slot.node.meta["val"]
        if not isinstance(tensor, torch.Tensor) or tensor.shape != like.shape:
            return None
        found[slot.node] = tensor.detach()
    return found


def with_views(
    captured: Captured, tensors: Mapping[fx.Node, torch.Tensor]
) -> dict[fx.Node, torch.Tensor]:
    """The same tensors and the views of them that the graph takes.

    Parameters
    ----------
    captured : Captured
    tensors : mapping
        One a slot.
    """
    found = dict(tensors)
    outside = {captured.value_of[node] for node in tensors}
    runs = {node for nodes in captured.op_nodes for node in nodes}
    for node in captured.joint.graph.nodes:
        if node in found or node in runs or captured.value_of.get(node) not in outside:
            continue
        if all(arg in found for arg in node.all_input_nodes):
            args, kwargs = fx.map_arg((node.args, node.kwargs), found.__getitem__)
            with below_autograd():
                found[node] = node.target(*args, **kwargs)
    return found
