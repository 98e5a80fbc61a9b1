"""The distinct ops of a captured graph, and real arguments to run each of them on alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from pebble.tracing.aten_rules import idle_inputs
from pebble.tracing.scalar_storages import reduces_to_scalar, shrink
from pebble.tracing.torch_private import pytree
from pebble.tracing.torch_private.operators import dispatcher_entry, op_name

if TYPE_CHECKING:
    from pebble.tracing import Captured

_PATTERN = 1 << 14  # different numbers in an argument


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

    @property
    def weighs_contents(self) -> bool:
        """Whether its bytes depend on how much of a mask is set, or which rows are looked up."""
        if op_name(self.node.target).startswith("pebble::"):
            return True
        return any(value_of(n).dtype is torch.bool for n in _index_limits(self.node))


@dataclass(frozen=True)
class CallBytes:
    """What a call takes.

    Attributes
    ----------
    peak : int
        The most that was held while it ran, results included.
    made : tuple of int
        Bytes of the storage behind each of its results.
    """

    peak: int
    made: tuple[int, ...]


def run_call(node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the op of a node makes of these arguments, as a planned step runs it."""
    made = dispatcher_entry(node.target)(*args, **kwargs)
    return shrink(made) if reduces_to_scalar(node) else made


def results_of_op(captured: Captured, op: int) -> list[tuple[int, int]]:
    """Positions of an op's results -> the values that they belong to."""
    node, *items = captured.op_nodes[op]
    values = captured.graph.values
    if isinstance(node.meta.get("val"), torch.Tensor):
        return [(0, captured.value_of[node])]
    found: dict[Any, int] = {item.args[1]: captured.value_of[item] for item in items}
    for value in captured.graph.ops[op].outputs:  # results that nobody reads
        name, _, place = values[value].name.rpartition(".")
        if name == node.name and place.isdecimal():
            found.setdefault(int(place), value)
    return list(found.items())


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

    Each argument lies in memory of its own, as far from its storage's start as the captured one:
    some kernels copy a storage from there. The same call gets the same arguments, whatever was
    asked for before.

    Parameters
    ----------
    device : str
    seed : int
        The global random state is neither used nor changed.
    """

    def __init__(self, device: str = "cpu", seed: int = 0) -> None:
        self.device = torch.device(device)
        self.seed = seed
        self.generator = torch.Generator()
        self.patterns: dict[torch.dtype, torch.Tensor] = {}

    def arguments(
        self, call: Call, own: Mapping[fx.Node, torch.Tensor] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for a call.

        Parameters
        ----------
        own : mapping, optional
            Tensors by node that need not be made; a call that writes to one gets another, and so
            does one whose bytes depend on what is in it.
        """
        limits = _index_limits(call.node)
        self.generator.manual_seed(self.seed)
        made = {*limits, *idle_inputs(call.node)}
        own = {node: t for node, t in (own or {}).items() if node not in made}

        def make(node: fx.Node) -> Any:
            if node in own:
                return own[node]
            value = value_of(node)
            if not isinstance(value, torch.Tensor):
                return pytree.tree_map_only(torch.Tensor, self.tensor, value)
            return self.tensor(value, limits.get(node))

        args, kwargs = fx.map_arg((call.node.args, call.node.kwargs), make)
        return tuple(args), {**kwargs}

    def tensor(self, like: torch.Tensor, limit: range | None = None) -> torch.Tensor:
        """A tensor of this layout; limit: the integers to choose from."""
        start = int(like.storage_offset())
        flat = self._flat(start + _extent(like), like.dtype, limit)
        return flat.as_strided(like.shape, like.stride(), start)

    def _flat(self, length: int, dtype: torch.dtype, limit: range | None) -> torch.Tensor:
        if limit is not None and dtype is torch.bool:  # a mask of all, the most it can take
            return torch.ones(length, dtype=torch.bool, device=self.device)
        if limit is not None and not dtype.is_floating_point:
            stop = max(limit.stop, limit.start + 1)
            whole = torch.randint(limit.start, stop, (length,), generator=self.generator)
            return whole.to(self.device, dtype)
        if not (dtype.is_floating_point or dtype.is_complex):
            return torch.zeros(length, dtype=dtype, device=self.device)
        pattern = self._pattern(dtype)
        return pattern.repeat(max(-(-length // len(pattern)), 1))[:length].clone()

    def _pattern(self, dtype: torch.dtype) -> torch.Tensor:
        if dtype not in self.patterns:
            drawn = torch.rand(_PATTERN, generator=torch.Generator().manual_seed(self.seed)) + 0.5
            self.patterns[dtype] = drawn.to(self.device).to(dtype)
        return self.patterns[dtype]


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
            layout = tuple(leaf.shape), leaf.stride(), leaf.storage_offset()
            parts.append((*layout, leaf.dtype, leaf.device.type))
        else:
            parts.append((type(leaf).__name__, repr(leaf)))
    return tuple(parts)


def _extent(like: torch.Tensor) -> int:
    """Elements from the first to the last that a strided tensor reaches."""
    if like.numel() == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(like.shape, like.stride()))


def _span(like: torch.Tensor) -> int:
    return (int(like.storage_offset()) + _extent(like)) * like.itemsize


# -- indices -------------------------------------------------------------------------------------

Limits = dict[fx.Node, range]


def _index_limits(node: fx.Node) -> Limits:
    """Argument nodes that hold indices -> those to choose from."""
    rule = _RULES.get(op_name(node.target))
    return {} if rule is None else rule(node.args)


def _shape(node: Any) -> Sequence[int]:
    shape: Sequence[int] = value_of(node).shape
    return shape


def _rows(table: int, index: int) -> Callable[[tuple[Any, ...]], Limits]:
    return lambda args: {args[index]: range(_shape(args[table])[0])}


def _along_dim(args: tuple[Any, ...]) -> Limits:
    shape = _shape(args[0])
    return {args[2]: range(shape[args[1]] if shape else 1)}


def _per_dim(args: tuple[Any, ...]) -> Limits:
    shape = _shape(args[0])
    return {index: range(shape[d]) for d, index in enumerate(args[1]) if index is not None}


def _no_padding(args: tuple[Any, ...]) -> Limits:
    """Rows of which none is left out."""
    rows, padding = args[-2] if len(args) == 4 else args[6], args[-1]
    return {args[1]: range(padding + 1, rows) if padding + 1 < rows else range(max(padding, 1))}


def _sparse_sum(args: tuple[Any, ...]) -> Limits:
    return {args[i]: range(args[4]) for i in (0, 2)}


def _pivots(args: tuple[Any, ...]) -> Limits:
    """Rows that were swapped, counted from 1 as LAPACK does."""
    return {args[1]: range(1, _shape(args[1])[-1] + 1)}


def _classes(scores: int, target: int) -> Callable[[tuple[Any, ...]], Limits]:
    def rule(args: tuple[Any, ...]) -> Limits:
        shape = _shape(args[scores])
        return {args[target]: range(shape[1] if len(shape) > 1 else shape[0])}

    return rule


_RULES: dict[str, Callable[[tuple[Any, ...]], Limits]] = {
    "aten::_assert_async": lambda args: {
        args[0]: range(1)
    },  # a mask of all: what is asserted is so
    "aten::embedding": _rows(0, 1),
    "aten::embedding_dense_backward": lambda args: {args[1]: range(int(args[2]))},
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
    "aten::linalg_lu_solve": _pivots,
    "aten::lu_unpack": _pivots,
    "pebble::embedding_rows": _no_padding,
    "pebble::bag_rows": _no_padding,
    "pebble::bag_values": _no_padding,
    "pebble::sum_of_rows": _sparse_sum,
    "pebble::add_rows": _rows(0, 1),
    "aten::nll_loss_forward": _classes(0, 1),
    "aten::nll_loss2d_forward": _classes(0, 1),
    "aten::nll_loss_backward": _classes(1, 2),
    "aten::nll_loss2d_backward": _classes(1, 2),
}
