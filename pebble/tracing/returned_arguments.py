"""Ops that hand back their very argument in eager, but a copy of it in a trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.autograd import version_of
from pebble.tracing.torch_private.fake_tensors import FakeTensorMode
from pebble.tracing.torch_private.storages import storage_id
from pebble.tracing.torch_private.symbolic_sizes import size_key


def restore_returned_arguments(forward: fx.GraphModule) -> None:
    """Put the argument in place of an op that returns it.

    Dropout that drops nothing (in evaluation mode, or of probability 0) returns its input. While
    dynamo and AOT trace, it makes a copy, which is seen: a write to one of the two is a write to
    the other, a copy takes memory, and where it stands between a value and its readers, their
    gradients are added up in another order.

    Parameters
    ----------
    forward : fx.GraphModule
        Of torch calls, as dynamo makes it; changed in place.
    """
    changed = False
    for node in list(forward.graph.nodes):
        if _returns_argument(node):
            node.replace_all_uses_with(node.all_input_nodes[0])
            forward.graph.erase_node(node)
            changed = True
    if changed:
        forward.recompile()


def _returns_argument(node: fx.Node) -> bool:
    """Whether eager hands back the one tensor that the op is given, and the trace another."""
    made = node.meta.get("example_value")
    if node.op not in ("call_function", "call_method") or not isinstance(made, torch.Tensor):
        return False
    if len(node.all_input_nodes) != 1:
        return False
    given = node.all_input_nodes[0].meta.get("example_value")
    if not isinstance(given, torch.Tensor) or _looks(given) != _looks(made):
        return False
    if storage_id(given) == storage_id(made):
        return False
    with FakeTensorMode(), torch.no_grad():
        twin = _twin(given)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda _: twin)
        before = version_of(twin)
        if node.op == "call_method":
            made = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            made = node.target(*args, **kwargs)  # type: ignore[operator]
        return made is twin and version_of(twin) == before


def _looks(tensor: torch.Tensor) -> tuple[Any, ...]:
    if tensor.layout is not torch.strided:
        return (tensor.layout,)
    # comparing open sizes themselves would narrow what the trace holds for
    laid_out = tuple(size_key(n) for n in (*tensor.shape, *tensor.stride()))
    return laid_out, tensor.dim(), tensor.dtype, tensor.device


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
