"""A joint fx graph becomes a pebble Graph: storages are values, views are free."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from pebble.errors import CaptureError
from pebble.graph import Graph, Op, Phase, Value
from pebble.tracing.torch_private.operators import OpOverload, arguments_of, is_mutable, op_name
from pebble.tracing.torch_private.storages import storage_id

BOUNDARY_KIND = "pebble.boundary"
_TRUSTED = ("aten", "prims", "quantized_decomposed", "torchvision")
_SHORT = {
    torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8",
    torch.uint8: "u8", torch.bool: "b8", torch.complex64: "c64", torch.complex128: "c128",
}  # fmt: skip

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


@dataclass(frozen=True)
class Ends:
    """What the graph's inputs and outputs mean for lifetimes.

    Attributes
    ----------
    inputs : tuple of fx.Node
        Placeholders and constants that are there before the step.
    tangents : tuple of fx.Node
    handed : tuple of fx.Node
        Forward outputs, updates included.
    kept : frozenset of fx.Node
        Forward outputs that the caller holds.
    gradients : tuple of fx.Node
    overwritten : frozenset of fx.Node
        Inputs whose contents the step replaces at the boundary.
    """

    inputs: tuple[fx.Node, ...]
    tangents: tuple[fx.Node, ...]
    handed: tuple[fx.Node, ...]
    kept: frozenset[fx.Node]
    gradients: tuple[fx.Node, ...]
    overwritten: frozenset[fx.Node]


@dataclass(frozen=True)
class Wiring:
    """A Graph and the map between it and the fx nodes; see `pebble.tracing.Captured`."""

    graph: Graph
    op_nodes: tuple[tuple[fx.Node, ...], ...]
    value_of: Mapping[fx.Node, int]
    views: frozenset[fx.Node]
    value_source: tuple[fx.Node, ...]


def wire(joint: fx.GraphModule, ends: Ends, *, name: str, loss_outside: bool = False) -> Wiring:
    """The pebble Graph of a joint graph, in the joint graph's own order.

    With `loss_outside` the caller computes the loss: it and its root gradient are a value more.

    Raises
    ------
    CaptureError
        If a size is symbolic.
    """
    builder = _Builder(ends)
    for node in ends.inputs:
        builder.external(node)
    before, after = _halves(joint.graph, ends)
    for node in before:
        builder.add(node, Phase.FORWARD)
    boundary = builder.boundary(loss_outside)
    for node in after:
        builder.add(node, Phase.BACKWARD)
    graph = Graph(builder.ops, builder.finished_values(), name=name, boundary=boundary)
    return Wiring(
        graph,
        tuple(builder.op_nodes),
        builder.value_of,
        frozenset(builder.views),
        tuple(builder.source),
    )


def _halves(graph: fx.Graph, ends: Ends) -> tuple[list[fx.Node], list[fx.Node]]:
    """The call nodes before and after the boundary, each in the graph's order.

    The boundary stands before the first node that depends on a tangent; what a forward output
    needs comes before it in any case.
    """
    needed = set(ends.handed)
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    dependent = set(ends.tangents)
    before: list[fx.Node] = []
    after: list[fx.Node] = []
    begun = False
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if not dependent.isdisjoint(node.all_input_nodes):
            dependent.add(node)
            begun = True
        (after if begun and node not in needed else before).append(node)
    return before, after


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


def results_of(graph: fx.Graph) -> list[Any]:
    """What a graph returns: nodes, or None."""
    results: Any = graph.output_node().args[0]
    return list(results)


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


@dataclass
class _Builder:
    """Grows the ops and values node by node."""

    ends: Ends
    ops: list[Op] = field(default_factory=list)
    op_nodes: list[tuple[fx.Node, ...]] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    source: list[fx.Node] = field(default_factory=list)
    value_of: dict[fx.Node, int] = field(default_factory=dict)
    views: set[fx.Node] = field(default_factory=set)
    by_storage: dict[int, int] = field(default_factory=dict)
    grouped: set[fx.Node] = field(default_factory=set)
    stale: set[fx.Node] = field(default_factory=set)  # overwritten inputs and views of them
    turn: int | None = None  # empty value that the next op with an effect reads; see `_take_turn`

    def external(self, node: fx.Node) -> None:
        self._value(node, node.meta["val"], external=True)
        if node in self.ends.overwritten:
            self.stale.add(node)

    def boundary(self, loss_outside: bool) -> int:
        reads = [self.value_of[node] for node in self.ends.handed]
        reads += [] if self.turn is None else [self.turn]
        made = [self._value(node, node.meta["val"])[0] for node in self.ends.tangents]
        if loss_outside:
            made.append(self._outside_loss())
        self.ops.append(
            Op(
                "boundary", 0, tuple(dict.fromkeys(reads)), tuple(made),
                recomputable=False, kind=BOUNDARY_KIND,
            )
        )  # fmt: skip
        self.op_nodes.append(())
        return len(self.ops) - 1

    def _outside_loss(self) -> int:
        first = self.ends.tangents[0]
        size = 2 * first.meta["val"].itemsize
        self.values.append(Value("loss", size, pinned=True, spec="loss and root gradient"))
        self.source.append(first)
        return len(self.values) - 1

    def finished_values(self) -> list[Value]:
        pinned = {
            self.value_of[node]
            for node in (*self.ends.kept, *self.ends.gradients, *self.ends.tangents)
        }
        return [
            Value(v.name, v.size, v.external, v.pinned or (i in pinned and not v.external), v.spec)
            for i, v in enumerate(self.values)
        ]

    def add(self, node: fx.Node, phase: Phase) -> None:
        """An op, a view, or a part of an op that is already there."""
        if node in self.grouped:
            return
        made = node.meta.get("val")
        if isinstance(made, torch.Tensor):
            value, fresh = self._value(node, made)
            if fresh:
                self._op((node,), [value], phase)
            else:
                self._view(node)
        elif isinstance(made, (tuple, list)):
            self._several(node, made, phase)
        elif made is None:
            self._op((node,), [], phase)  # an effect, such as a collective's wait
        else:
            raise CaptureError(
                f"Node {node.name!r} of the traced step makes a {type(made).__name__}, a size "
                "that depends on data; pebble plans steps of fixed shapes."
            )

    def _several(self, node: fx.Node, made: Sequence[Any], phase: Phase) -> None:
        items = [u for u in node.users if u.target is operator.getitem]
        self.grouped.update(items)
        by_index: dict[Any, list[fx.Node]] = {}
        for item in items:
            by_index.setdefault(item.args[1], []).append(item)
        values = []
        for k, tensor in enumerate(made):
            if not isinstance(tensor, torch.Tensor):
                continue
            readers = by_index.get(k, [])
            name = readers[0].name if readers else f"{node.name}.{k}"
            value, fresh = self._value(readers[0] if readers else node, tensor, name=name)
            self.value_of.update(dict.fromkeys(readers, value))
            if fresh:
                values.append(value)
        if values:
            self.value_of.pop(node, None)
            self._op((node, *items), values, phase)
        else:
            self.value_of.pop(node, None)
            for view in (node, *items):
                self._view(view)

    def _view(self, node: fx.Node) -> None:
        self.views.add(node)
        if not self.stale.isdisjoint(node.all_input_nodes):
            self.stale.add(node)

    def _value(
        self, node: fx.Node, tensor: torch.Tensor, *, external: bool = False, name: str = ""
    ) -> tuple[int, bool]:
        """The value of a tensor's storage, and whether it is new."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if not isinstance(size, int):
            raise CaptureError(
                f"Node {node.name!r} of the traced step has the symbolic size {size}; pebble "
                "plans steps of fixed shapes. Pass inputs whose sizes are plain integers."
            )
        key = storage_id(storage)
        known = self.by_storage.get(key)
        if known is not None:
            self.value_of[node] = known
            return known, False
        self.by_storage[key] = self.value_of[node] = len(self.values)
        self.values.append(Value(name or node.name, size, external, False, describe(tensor)))
        self.source.append(node)
        return len(self.values) - 1, True

    def _op(self, nodes: tuple[fx.Node, ...], made: Iterable[int], phase: Phase) -> None:
        node, made = nodes[0], tuple(made)
        reads = tuple(dict.fromkeys(self.value_of[a] for a in node.all_input_nodes))
        outdated = any(a in self.stale for a in node.all_input_nodes if a not in idle_inputs(node))
        before, after = self._take_turn(node) if has_effect(node) else ((), ())
        self.ops.append(
            Op(
                node.name,
                1,
                reads + before,
                tuple(made) + after,
                phase=phase,
                recomputable=not outdated and may_repeat(node),
                kind=self._kind(node, reads),
                module=module_path(node),
            )
        )
        self.op_nodes.append(nodes)

    def _take_turn(self, node: fx.Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """An empty value to read and one to make: ops with an effect run in their own order.

        A random draw depends on the draws before it; collectives must meet in the same order on
        every rank. No schedule may swap them, nor move one of the forward past the boundary.
        """
        before = () if self.turn is None else (self.turn,)
        self.turn = len(self.values)
        self.values.append(Value(f"turn_of_{node.name}", 0, spec="turn"))
        self.source.append(node)
        return before, (self.turn,)

    # -- kinds -------------------------------------------------------------------------------

    def _kind(self, node: fx.Node, reads: tuple[int, ...]) -> str:
        """The op and everything but tensors that decides what it computes: arguments, views."""
        place = {value: i for i, value in enumerate(reads)}
        text = self._call(node, place)
        name = _name(node.target)
        plain = f"{name}({', '.join(f'%{i}' for i in range(len(reads)))})"
        return name if text == plain else text

    def _call(self, node: fx.Node, place: Mapping[int, int]) -> str:
        parts = [self._argument(arg, place) for arg in node.args]
        parts += [f"{key}={self._argument(arg, place)}" for key, arg in node.kwargs.items()]
        return f"{_name(node.target)}({', '.join(parts)})"

    def _argument(self, arg: Any, place: Mapping[int, int]) -> str:
        if isinstance(arg, fx.Node):
            if arg in self.views:
                return self._call(arg, place)
            return f"%{place[self.value_of[arg]]}"
        if isinstance(arg, (list, tuple)):
            return f"[{', '.join(self._argument(a, place) for a in arg)}]"
        if isinstance(arg, torch.dtype):
            return _dtype(arg)
        if isinstance(arg, torch.device):
            return arg.type
        return str(arg) if isinstance(arg, (torch.layout, torch.memory_format)) else repr(arg)


def _name(target: Any) -> str:
    if isinstance(target, OpOverload):
        return str(target)
    return str(getattr(target, "__name__", target))


def may_repeat(node: fx.Node) -> bool:
    """Whether a node gives the same result each time and does nothing else."""
    target = node.target
    if not isinstance(target, OpOverload):
        return target is operator.getitem
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


def module_path(node: fx.Node) -> str:
    """Path of the module whose forward a node is part of, such as ``transformer.h.0.mlp``."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack")
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return _tidy(path)


def _tidy(path: str) -> str:
    """Dynamo writes ``L['self'].layers.0`` or ``L['self']._modules['layers']``.

    Examples
    --------
    >>> _tidy("L['self'].layers.0"), _tidy("L['self']._modules['layers']._modules['0']")
    ('layers.0', 'layers.0')
    """
    _, _, inner = path.partition("]")
    for junk in ("._modules", "['", "']", "[", "]"):
        inner = inner.replace(junk, "." if "[" in junk else "")
    return ".".join(part for part in inner.split(".") if part not in ("", "_held"))
