"""How ops, tensors and modules are written in a graph: its fingerprint is made of these texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.operators import OpOverload

_SHORT = {
    torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8",
    torch.uint8: "u8", torch.bool: "b8", torch.complex64: "c64", torch.complex128: "c128",
}  # fmt: skip


def describe(tensor: torch.Tensor) -> str:
    """Dtype and shape.

    Examples
    --------
    >>> import torch
    >>> describe(torch.zeros(8, 512))
    'f32[8, 512]'
    """
    return f"{_dtype(tensor.dtype)}[{', '.join(map(str, tensor.shape))}]"


def _dtype(dtype: torch.dtype) -> str:
    return _SHORT.get(dtype, str(dtype).removeprefix("torch."))


def op_kind(
    node: fx.Node,
    reads: Sequence[int],
    value_of: Mapping[fx.Node, int],
    views: Collection[fx.Node],
) -> str:
    """The op and everything but tensors that decides what it computes: arguments, views.

    Parameters
    ----------
    node : fx.Node
    reads : sequence of int
        The values that it reads, in order; the text calls them ``%0``, ``%1`` ...
    value_of : mapping of fx.Node to int
    views : collection of fx.Node
        Nodes that are written out where they are read.
    """
    place = {value: i for i, value in enumerate(reads)}
    text = _Text(place, value_of, views).call(node)
    name = _name(node.target)
    plain = f"{name}({', '.join(f'%{i}' for i in range(len(reads)))})"
    return name if text == plain else text


@dataclass(frozen=True)
class _Text:
    place: Mapping[int, int]
    value_of: Mapping[fx.Node, int]
    views: Collection[fx.Node]

    def call(self, node: fx.Node) -> str:
        parts = [self.argument(arg) for arg in node.args]
        parts += [f"{key}={self.argument(arg)}" for key, arg in node.kwargs.items()]
        return f"{_name(node.target)}({', '.join(parts)})"

    def argument(self, arg: Any) -> str:
        if isinstance(arg, fx.Node):
            return self.call(arg) if arg in self.views else f"%{self.place[self.value_of[arg]]}"
        if isinstance(arg, (list, tuple)):
            return f"[{', '.join(map(self.argument, arg))}]"
        if isinstance(arg, torch.dtype):
            return _dtype(arg)
        if isinstance(arg, torch.device):
            return arg.type
        return str(arg) if isinstance(arg, (torch.layout, torch.memory_format)) else repr(arg)


def _name(target: Any) -> str:
    if isinstance(target, OpOverload):
        return str(target)
    return str(getattr(target, "__name__", target))


def module_path(node: fx.Node) -> str:
    """Path of the module whose forward a node is part of, such as ``transformer.h.0.mlp``."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack")
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return tidy_path(path)


def tidy_path(path: str) -> str:
    """Dynamo writes ``L['self'].layers.0`` or ``L['self']._modules['layers']``.

    Examples
    --------
    >>> tidy_path("L['self'].layers.0"), tidy_path("L['self']._modules['layers']._modules['0']")
    ('layers.0', 'layers.0')
    """
    _, _, inner = path.partition("]")
    for junk in ("._modules", "['", "']", "[", "]"):
        inner = inner.replace(junk, "." if "[" in junk else "")
    return ".".join(part for part in inner.split(".") if part not in ("", "_held"))
