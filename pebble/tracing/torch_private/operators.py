"""torch's ops: those with private names, and what the dispatcher knows of one."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload

__all__ = [
    "LOCAL_SCALAR_DENSE",
    "LOG_SOFTMAX",
    "LOG_SOFTMAX_BACKWARD",
    "TO_COPY",
    "UNSAFE_VIEW",
    "OpOverload",
    "arguments_of",
    "dispatcher_entry",
    "is_mutable",
    "op_name",
]

LOCAL_SCALAR_DENSE = torch.ops.aten._local_scalar_dense.default
LOG_SOFTMAX = torch.ops.aten._log_softmax.default
LOG_SOFTMAX_BACKWARD = torch.ops.aten._log_softmax_backward_data.default
TO_COPY = torch.ops.aten._to_copy.default
UNSAFE_VIEW = torch.ops.aten._unsafe_view.default


def op_name(target: Any) -> str:
    """Name of an op without its overload, such as ``aten::mm``; empty for anything else."""
    return str(getattr(getattr(target, "_schema", None), "name", ""))


def is_mutable(op: OpOverload) -> bool:
    """Whether an op writes to one of its arguments."""
    return bool(op._schema.is_mutable)


def arguments_of(op: OpOverload) -> list[Any]:
    """The declared arguments of an op, each with its name and default."""
    return list(op._schema.arguments)


def dispatcher_entry(target: Any) -> Any:
    """The dispatcher's entry of an op: one Python frame less per call; other callables as is."""
    return getattr(target, "_op", target)
