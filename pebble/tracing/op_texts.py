"""How ops, tensors and modules are written in a graph: its fingerprint is made of these texts."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
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
    inlined: Mapping[fx.Node, Inlined] = MappingProxyType({}),
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
    inlined : mapping of fx.Node to Inlined
        Nodes that the op computes from the values that it reads.
    """
    place = {value: i for i, value in enumerate(reads)}
    text = _Text(place, value_of, views, inlined).call(node)
    name = _name(node.target)
    plain = f"{name}({', '.join(f'%{i}' for i in range(len(reads)))})"
    return name if text == plain else text


@dataclass(frozen=True)
class Inlined:
    """A node that has no values in memory: what it is made of, and how.

    Attributes
    ----------
    leaves : tuple of int
        The values that it is computed from.
    digest : str
        Hash of the computation.
    """

    leaves: tuple[int, ...]
    digest: str

    @classmethod
    def of(
        cls,
        node: fx.Node,
        leaves: tuple[int, ...],
        value_of: Mapping[fx.Node, int],
        views: Collection[fx.Node],
        inlined: Mapping[fx.Node, Inlined],
    ) -> Inlined:
        """From the values that a node reaches."""
        text = op_kind(node, leaves, value_of, views, inlined)
        return cls(leaves, hashlib.sha256(text.encode()).hexdigest()[:12])


@dataclass(frozen=True)
class _Text:
    place: Mapping[int, int]
    value_of: Mapping[fx.Node, int]
    views: Collection[fx.Node]
    inlined: Mapping[fx.Node, Inlined]

    def call(self, node: fx.Node) -> str:
        parts = [self.argument(arg) for arg in node.args]
        parts += [f"{key}={self.argument(arg)}" for key, arg in node.kwargs.items()]
        return f"{_name(node.target)}({', '.join(parts)})"

    def argument(self, arg: Any) -> str:
        if isinstance(arg, fx.Node):
            made = self.inlined.get(arg)
            if made is not None:
                return f"~{made.digest}({', '.join(f'%{self.place[v]}' for v in made.leaves)})"
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
