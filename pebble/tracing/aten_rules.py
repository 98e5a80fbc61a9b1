"""What an aten op may be asked: run twice, keep its turn, ignore an input."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.operators import OpOverload, arguments_of, is_mutable, op_name

_TRUSTED = ("aten", "prims", "quantized_decomposed", "torchvision", "pebble")

# A normalisation in training mode is given the running statistics, but its results other than
# the updated statistics do not depend on them, nor do its gradients:
# op -> (position of the flag for training, or None where it always trains; those of the statistics)
_IDLE_STATISTICS: dict[str, tuple[int | None, tuple[int, ...]]] = {
    "aten::_native_batch_norm_legit_functional": (5, (3, 4)),
    "aten::_native_batch_norm_legit": (5, (3, 4)),
    "aten::native_batch_norm": (5, (3, 4)),
    "aten::native_batch_norm_backward": (7, (3, 4)),
    "aten::_batch_norm_with_update_functional": (None, (3, 4)),
    "aten::batch_norm_backward": (7, (3, 4)),
    "aten::cudnn_batch_norm": (5, (3, 4)),
    "aten::cudnn_batch_norm_backward": (None, (3, 4)),
    "aten::miopen_batch_norm": (5, (3, 4)),
    "aten::miopen_batch_norm_backward": (None, (3, 4)),
}


def idle_inputs(node: fx.Node) -> frozenset[fx.Node]:
    """Inputs that a node is given but whose contents do not influence what others read of it."""
    known = _IDLE_STATISTICS.get(op_name(node.target))
    if known is None:
        return frozenset()
    flag, positions = known
    if flag is not None and (len(node.args) <= flag or node.args[flag] is not True):
        return frozenset()
    given = (node.args[i] for i in positions if i < len(node.args))
    return frozenset(arg for arg in given if isinstance(arg, fx.Node))


def may_repeat(node: fx.Node) -> bool:
    """Whether a node gives the same result each time and does nothing else."""
    target = node.target
    if not isinstance(target, OpOverload):
        return target is operator.getitem
    if node.meta.get("val") is None:
        return False  # it checks or prints: once is what was asked for
    if target.namespace not in _TRUSTED or is_mutable(target):
        return False
    if torch.Tag.nondeterministic_seeded not in target.tags and not _has_dropout(target):
        return True
    return _has_dropout(target) and _dropout(node) == 0.0


def has_effect(node: fx.Node) -> bool:
    """Whether a node draws random numbers or communicates, so that its turn matters."""
    if node.meta.get("val") is None:
        return True
    target = node.target
    if not isinstance(target, OpOverload) or may_repeat(node):
        return False
    return (
        torch.Tag.nondeterministic_seeded in target.tags
        or _has_dropout(target)
        or target.namespace.startswith(("_c10d", "c10d"))
    )


def _has_dropout(target: OpOverload) -> bool:
    forward = "backward" not in op_name(target)
    return forward and any(a.name == "dropout_p" for a in arguments_of(target))


def _dropout(node: fx.Node) -> Any:
    for i, argument in enumerate(arguments_of(node.target)):  # type: ignore[arg-type]
        if argument.name == "dropout_p":
            default = argument.default_value if argument.has_default_value() else None
            given = node.args[i] if i < len(node.args) else default
            return node.kwargs.get("dropout_p", given)
    return None
