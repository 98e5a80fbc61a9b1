"""The distinct ops of a captured graph, and real arguments to run each of them on alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from pebble.tracing.torch_private import pytree

if TYPE_CHECKING:
    from pebble.tracing import Captured

_ALIGNMENT = 64  # bytes between two arguments' starts, as the CPU allocator gives


@dataclass(frozen=True)
class Call:
    """One op with its arguments' shapes, strides and dtypes; what the op's cost depends on.

    Attributes
    ----------
    key : tuple
        Equal for calls that do the same work.
    node : fx.Node
        The first node that makes this call.
    """

    key: tuple[Any, ...]
    node: fx.Node = field(compare=False)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The (fake) tensor arguments, in order of appearance."""
        return [leaf for leaf in _leaves(self.node) if isinstance(leaf, torch.Tensor)]

    @property
    def bytes(self) -> int:
        """Bytes of the arguments' storages and of the results."""
        results = pytree.tree_leaves(self.node.meta.get("val"))
        made = [t for t in results if isinstance(t, torch.Tensor)]
        return sum(_span(t) for t in self.tensors) + sum(t.numel() * t.itemsize for t in made)


def distinct_calls(captured: Captured) -> tuple[list[Call], list[int | None]]:
    """The distinct calls of a graph, and for each op the index of its call (None: no node)."""
    calls: dict[tuple[Any, ...], int] = {}
    found: list[Call] = []
    of_op: list[int | None] = []
    for nodes in captured.op_nodes:
        if not nodes:
            of_op.append(None)
            continue
        key = _key(nodes[0])
        if key not in calls:
            calls[key] = len(found)
            found.append(Call(key, nodes[0]))
        of_op.append(calls[key])
    return found, of_op


def value_of(node: fx.Node) -> Any:
    """The fake tensor (or tuple) that a node stands for; a constant's own tensor."""
    if "val" in node.meta:
        return node.meta["val"]
    module = node.graph.owning_module
    assert module is not None and node.op == "get_attr"
    return getattr(module, str(node.target))


class Sampler:
    """Real arguments for calls: floats in [0.5, 1.5), integers that are valid indices.

    All arguments lie in one buffer a dtype, which is filled once: running thousands of ops costs
    little more than the ops. Strides are the captured ones, stride 0 included.

    Parameters
    ----------
    device : str
    seed : int
        The global random state is neither used nor changed.
    """

    def __init__(self, device: str = "cpu", seed: int = 0) -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.buffers: dict[torch.dtype, torch.Tensor] = {}

    def arguments(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for a call."""
        limits = _index_limits(call.node)
        used: dict[torch.dtype, int] = {}

        def make(node: fx.Node) -> Any:
            value = value_of(node)
            if not isinstance(value, torch.Tensor):
                return pytree.tree_map_only(
                    torch.Tensor, lambda t: self._real(t, None, used), value
                )
            return self._real(value, limits.get(node), used)

        args, kwargs = fx.map_arg((call.node.args, call.node.kwargs), make)
        return tuple(args), {**kwargs}

    def tensor(self, like: torch.Tensor) -> torch.Tensor:
        """A tensor with memory of its own."""
        return self._real(like, None, {}).clone()

    def _real(
        self, like: torch.Tensor, limit: int | None, used: dict[torch.dtype, int]
    ) -> torch.Tensor:
        extent = _extent(like)
        if limit is not None and like.dtype is torch.bool:  # a mask of all, the most it can take
            whole = torch.ones(extent, dtype=torch.bool, device=self.device)
            return whole.as_strided(like.shape, like.stride())
        if limit is not None and not like.is_floating_point():
            whole = torch.randint(0, max(limit, 1), (extent,), generator=self.generator)
            flat = whole.to(self.device, like.dtype)
            return flat.as_strided(like.shape, like.stride())
        start = used.get(like.dtype, 0)
        step = max(_ALIGNMENT // like.itemsize, 1)
        used[like.dtype] = -(-(start + extent) // step) * step
        buffer = self.buffers.get(like.dtype)
        if buffer is None or buffer.numel() < start + extent:
            buffer = self._fill(start + extent, like.dtype)
            self.buffers[like.dtype] = buffer
        return buffer.as_strided(like.shape, like.stride(), start)

    def _fill(self, length: int, dtype: torch.dtype) -> torch.Tensor:
        if not (dtype.is_floating_point or dtype.is_complex):
            return torch.zeros(length, dtype=dtype, device=self.device)
        pattern = torch.rand(min(max(length, 1), 1 << 16), generator=self.generator) + 0.5
        pattern = pattern.to(self.device).to(dtype)
        return pattern.repeat(-(-length // len(pattern)))[:length].clone()


@contextlib.contextmanager
def quiet_state(device: str = "cpu") -> Iterator[None]:
    """No gradients, no autocast, and the random state as it was afterwards."""
    place = torch.device(device)
    devices = [place] if place.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.no_grad(),
        torch.autocast(place.type, enabled=False),
    ):
        yield


# -- keys ----------------------------------------------------------------------------------------


def _leaves(node: fx.Node) -> list[Any]:
    values = fx.map_arg((node.args, node.kwargs), value_of)
    leaves: list[Any] = pytree.tree_leaves(values)
    return leaves


def _key(node: fx.Node) -> tuple[Any, ...]:
    parts: list[Any] = [str(node.target)]
    for leaf in _leaves(node):
        if isinstance(leaf, torch.Tensor):
            parts.append((tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device.type))
        else:
            parts.append((type(leaf).__name__, repr(leaf)))
    return tuple(parts)


def _extent(like: torch.Tensor) -> int:
    """Elements from the first to the last that a strided tensor reaches."""
    if like.numel() == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(like.shape, like.stride()))


def _span(like: torch.Tensor) -> int:
    return _extent(like) * like.itemsize


# -- indices -------------------------------------------------------------------------------------

Limits = dict[fx.Node, int]


def _index_limits(node: fx.Node) -> Limits:
    """Argument nodes that hold indices -> how many there are to choose from."""
    name = getattr(getattr(node.target, "_schema", None), "name", "")
    rule = _RULES.get(name)
    return {} if rule is None else rule(node.args)


def _shape(node: Any) -> Sequence[int]:
    shape: Sequence[int] = value_of(node).shape
    return shape


def _rows(table: int, index: int) -> Callable[[tuple[Any, ...]], Limits]:
    return lambda args: {args[index]: _shape(args[table])[0]}


def _along_dim(args: tuple[Any, ...]) -> Limits:
    shape = _shape(args[0])
    return {args[2]: shape[args[1]] if shape else 1}


def _per_dim(args: tuple[Any, ...]) -> Limits:
    shape = _shape(args[0])
    return {index: shape[d] for d, index in enumerate(args[1]) if index is not None}


def _classes(scores: int, target: int) -> Callable[[tuple[Any, ...]], Limits]:
    def rule(args: tuple[Any, ...]) -> Limits:
        shape = _shape(args[scores])
        return {args[target]: shape[1] if len(shape) > 1 else shape[0]}

    return rule


_RULES: dict[str, Callable[[tuple[Any, ...]], Limits]] = {
    "aten::_assert_async": lambda args: {args[0]: 1},  # a mask of all: what is asserted is so
    "aten::embedding": _rows(0, 1),
    "aten::embedding_dense_backward": lambda args: {args[1]: int(args[2])},
    "aten::gather": _along_dim,
    "aten::index_select": _along_dim,
    "aten::index_add": _along_dim,
    "aten::scatter": _along_dim,
    "aten::scatter_add": _along_dim,
    "aten::scatter_reduce": _along_dim,
    "aten::index": _per_dim,
    "aten::_unsafe_index": _per_dim,
    "aten::index_put": _per_dim,
    "aten::_unsafe_index_put": _per_dim,
    "aten::nll_loss_forward": _classes(0, 1),
    "aten::nll_loss2d_forward": _classes(0, 1),
    "aten::nll_loss_backward": _classes(1, 2),
    "aten::nll_loss2d_backward": _classes(1, 2),
}
