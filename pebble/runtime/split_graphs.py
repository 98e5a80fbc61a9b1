"""A captured graph and a schedule become two fx graphs that execute the schedule exactly."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from pebble.errors import InvalidSchedule, PebbleError
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.tracing.aten_rules import idle_inputs
from pebble.tracing.signature import overwritten_inputs
from pebble.tracing.torch_private.operators import dispatcher_entry

if TYPE_CHECKING:
    from pebble.tracing import Captured

aten = torch.ops.aten


@dataclass(frozen=True)
class Halves:
    """The two graphs of a planned step.

    Attributes
    ----------
    forward : fx.GraphModule
        Takes one tensor per placeholder slot of the captured graph, in slot order; returns the
        forward outputs, then what the backward half needs.
    backward : fx.GraphModule
        Takes what the forward half saved, then the tangents; returns one gradient (or None) per
        entry of `Captured.gradients`, in slot order.
    n_outputs : int
        How many of the forward's results are forward outputs.
    saved : tuple of fx.Node
        The nodes of the captured joint graph whose tensors cross the boundary: one per copy.
    copied : tuple of fx.Node
        Placeholders that the step overwrites and the backward half reads: their old contents
        cross the boundary as an extra copy that the graph does not know of.
    """

    forward: fx.GraphModule
    backward: fx.GraphModule
    n_outputs: int
    saved: tuple[fx.Node, ...]
    copied: tuple[fx.Node, ...]


def hand_over(tensor: torch.Tensor, index: int) -> torch.Tensor:
    """Stand where gradient `index` of a backward half is finished.

    `compile_boxed` puts the caller's own function there.
    """
    return tensor


def split(
    captured: Captured,
    schedule: Schedule,
    *,
    copy_idle: bool = False,
    hand_overs: bool = False,
) -> Halves:
    """Two graphs that execute the schedule step by step.

    An op that runs again has its nodes cloned; a read takes the most recent copy; a view is made
    anew from its base wherever that has a new copy, so that it never prolongs one. Nothing but
    last uses decides when a tensor is freed: the caller must pass arguments boxed.

    Parameters
    ----------
    captured : Captured
    schedule : Schedule
    copy_idle : bool
        Copy an input that the step overwrites also where its contents do not matter to the
        backward half: for a runtime that insists that nothing it saved has changed.
    hand_overs : bool
        Call `hand_over` on each gradient as soon as it is made, for a caller that adds it up
        there and then.

    Raises
    ------
    InvalidSchedule
        If the schedule breaks a rule of the graph.

    Notes
    -----
    Running statistics of a normalisation in training mode do not influence its other results, so
    it may run again after they were overwritten; every other placeholder that the step overwrites
    is copied in the forward half if the backward half reads it.
    """
    graph = captured.graph
    if graph.boundary is None:
        raise InvalidSchedule(
            f"Graph {graph.name!r} has no boundary op between its forward and its backward half, "
            "so no module can follow a schedule of it; capture the model with pebble.tracing."
        )
    simulate(graph, schedule)  # raises where a rule is broken
    order = schedule.order
    cut = order.index(graph.boundary)
    outer = _Writer(captured, None)
    for slot in captured.slots:
        if slot.node.op == "placeholder":
            outer.place(slot.node)
    for op in order[:cut]:
        outer.execute(op)
    outputs = [outer.read(output.node) for output in captured.outputs]

    inner = _Writer(captured, outer, copy_idle=copy_idle)
    for tangent in captured.tangents:
        inner.place(tangent.node)
    slots = [s.node for s in captured.slots if s.node in captured.gradients]
    wanted = [captured.gradients[node] for node in slots]
    finished: dict[int, fx.Node] = {}
    made_by = _gradients_of(captured, wanted) if hand_overs else {}
    for op in order[cut + 1 :]:
        inner.execute(op)
        for i in made_by.pop(op, ()):
            finished[i] = inner.hand_over(wanted[i], i)
    gradients = [
        None if node is None else finished.get(i) or inner.read(node)
        for i, node in enumerate(wanted)
    ]

    forward = outer.finish([*outputs, *(copy for _, copy in inner.imports)], "PebbleForward")
    backward = inner.finish(gradients, "PebbleBackward")
    saved = tuple(node for node, _ in inner.imports)
    return Halves(forward, backward, len(outputs), saved, tuple(inner.copied))


def _gradients_of(captured: Captured, wanted: Sequence[fx.Node | None]) -> dict[int, list[int]]:
    """Op -> positions of the gradients that it finishes."""
    producer = captured.graph.arrays.producer
    found: dict[int, list[int]] = {}
    for i, node in enumerate(wanted):
        if node is not None:
            found.setdefault(int(producer[captured.value_of[node]]), []).append(i)
    return found


class _Writer:
    """Writes one half. `latest` maps a node of the joint graph to its most recent copy."""

    def __init__(
        self, captured: Captured, before: _Writer | None, *, copy_idle: bool = False
    ) -> None:
        self.captured = captured
        self.before = before
        self.copy_idle = copy_idle
        self.graph = fx.Graph()
        self.latest: dict[fx.Node, fx.Node] = {}
        self.views: dict[fx.Node, tuple[tuple[fx.Node, ...], fx.Node]] = {}
        self.imports: list[tuple[fx.Node, fx.Node]] = []  # joint node, its copy in the half before
        self.copied: list[fx.Node] = []
        self.idle: dict[fx.Node, fx.Node] = {}  # inputs whose contents may have changed
        self.overwritten = overwritten_inputs(captured.slots, captured.outputs)
        self.ops = {node for nodes in captured.op_nodes for node in nodes}
        self.first_tangent: fx.Node | None = None

    def place(self, node: fx.Node) -> fx.Node:
        """Make a placeholder for a node of the joint graph."""
        new = self.graph.placeholder(node.name)
        new.meta = dict(node.meta)
        self.latest[node] = new
        if self.first_tangent is None:
            self.first_tangent = new
        return new

    def execute(self, op: int) -> None:
        """Write one step: the nodes of an op, reading the most recent copies."""
        made: dict[fx.Node, fx.Node] = {}
        for node in self.captured.op_nodes[op]:
            idle = idle_inputs(node)

            def source(arg: fx.Node, idle: frozenset[fx.Node] = idle) -> fx.Node:
                return made[arg] if arg in made else self.read(arg, idle=arg in idle)

            made[node] = self.graph.node_copy(node, source)
        for node, copy in made.items():
            if not (self._is_pinned(node) and self._made_before(node)):
                self.latest[node] = copy

    def read(self, node: fx.Node, *, idle: bool = False) -> fx.Node:
        """The most recent copy of a node: from this half, the half before, or made as a view."""
        if node in self.latest:
            return self.latest[node]
        if idle and node in self.idle:
            return self.idle[node]
        if node.op == "get_attr":
            self.latest[node] = self.graph.node_copy(node)
            return self.latest[node]
        if node in self.ops or node.op == "placeholder":
            return self._import(node, idle)
        return self._view(node, idle)

    def hand_over(self, node: fx.Node | None, index: int) -> fx.Node:
        """Give a gradient to the caller, now."""
        assert node is not None
        given = self.read(node)
        made = self.graph.call_function(hand_over, (given, index))
        made.meta = dict(given.meta)
        return made

    def finish(self, results: Sequence[Any], name: str) -> fx.GraphModule:
        """Close the graph and drop what a step made but nobody reads (tuple items, views)."""
        self.graph.output(tuple(results))
        for node in reversed(self.graph.nodes):
            if node.target is operator.getitem and not node.users:
                self.graph.erase_node(node)
        self.graph.lint()
        return fx.GraphModule(self.captured.joint, self.graph, name)

    # -- inside ------------------------------------------------------------------------------

    def _view(self, node: fx.Node, idle: bool) -> fx.Node:
        # A view that has been made is shared while its base is the same copy: its readers read
        # the base too, so it ends no later than the base does.
        bases = tuple(self.read(arg, idle=idle) for arg in node.all_input_nodes)
        known = self.views.get(node)
        if known is not None and known[0] == bases:
            return known[1]
        copy = self.graph.node_copy(node, dict(zip(node.all_input_nodes, bases)).__getitem__)
        self.views[node] = (bases, copy)
        return copy

    def _import(self, node: fx.Node, idle: bool) -> fx.Node:
        """A placeholder of this half for a tensor that the half before hands over."""
        if self.before is None or node not in self.before.latest:
            raise PebbleError(
                f"Node {node.name!r} is read before any step has made it; the capture and its "
                "graph disagree. Please report this with the model."
            )
        handed = self.before.latest[node]
        changing = node in self.overwritten
        if changing and (self.copy_idle or not idle):
            handed = self.before.graph.call_function(aten.clone.default, (handed,))
            handed.meta = dict(node.meta)
            self.copied.append(node)
        assert self.first_tangent is not None, "a backward half has a tangent"
        with self.graph.inserting_before(self.first_tangent):
            new = self.graph.placeholder(node.name)
        new.meta = dict(node.meta)
        self.imports.append((node, handed))
        (self.idle if changing and not self.copy_idle and idle else self.latest)[node] = new
        return new

    def _is_pinned(self, node: fx.Node) -> bool:
        value = self.captured.value_of.get(node)
        return value is not None and self.captured.graph.values[value].pinned

    def _made_before(self, node: fx.Node) -> bool:
        return node in self.latest or (self.before is not None and node in self.before.latest)


# -- running a half ------------------------------------------------------------------------------

Boxed = Callable[..., tuple[Any, ...]]


def compile_boxed(module: fx.GraphModule) -> Boxed:
    """A Python function that runs a half, frees every tensor at its last use, and costs little.

    It takes its arguments in a list, which it empties, so that no caller keeps them alive. Ops are
    bound once (no attribute chains at run time), constants are globals. Where the half hands over
    gradients, it takes a list of functions besides, one a gradient: what they return is returned.

    Examples
    --------
    >>> import torch
    >>> from torch.fx.experimental.proxy_tensor import make_fx
    >>> module = make_fx(lambda x: (x.sin() + 1,))(torch.zeros(2))
    >>> arguments = [torch.zeros(2)]
    >>> compile_boxed(module)(arguments), arguments
    ((tensor([1., 1.]),), [])
    """
    source, names = _Source(module).write()
    code = compile(source, f"<pebble {module.__class__.__name__}>", "exec")
    exec(code, names)  # our own text: ops and constants of a captured graph
    run: Boxed = names["run"]
    return run


class _Source:
    """Python text of an fx graph and the names it refers to."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.names: dict[str, Any] = {}
        self.bound: dict[Any, str] = {}
        self.variables: dict[fx.Node, str] = {}
        self.last: dict[fx.Node, list[fx.Node]] = {}

    def write(self) -> tuple[str, dict[str, Any]]:
        nodes = list(self.module.graph.nodes)
        seen: set[fx.Node] = set()
        for node in reversed(nodes):
            self.last[node] = [arg for arg in node.all_input_nodes if arg not in seen]
            seen.update(node.all_input_nodes)
        inputs = [n for n in nodes if n.op == "placeholder"]
        for node in nodes:
            self.variables[node] = f"v{len(self.variables)}"
        lines = ["def run(arguments, takers=()):"]
        if inputs:
            lines.append(f" {', '.join(self.variables[n] for n in inputs)}, = arguments")
        lines.append(" arguments.clear()")
        self._drop(lines, [n for n in inputs if not n.users])
        for node in nodes:
            if node.op == "output":
                lines.append(f" return {self._text(tuple(node.args[0]))}")
            elif node.op == "call_function":
                self._call(lines, node)
        return "\n".join(lines) + "\n", self.names

    def _call(self, lines: list[str], node: fx.Node) -> None:
        variable = self.variables[node]
        if node.target is operator.getitem:
            lines.append(f" {variable} = {self._text(node.args[0])}[{node.args[1]!r}]")
        elif node.target is hand_over:
            lines.append(f" {variable} = takers[{node.args[1]!r}]({self._text(node.args[0])})")
        else:
            function = self._name(dispatcher_entry(node.target), "f")
            given = [self._text(arg) for arg in node.args]
            given += [f"{key}={self._text(arg)}" for key, arg in node.kwargs.items()]
            call = f"{function}({', '.join(given)})"
            if _reduces_to_scalar(node):
                call = f"{self._name(shrink, 'f')}({call})"
            lines.append(f" {variable} = {call}")
        unread = [] if node.users else [node]
        self._drop(lines, [*(n for n in self.last[node] if n.op != "get_attr"), *unread])

    def _drop(self, lines: list[str], nodes: Sequence[fx.Node]) -> None:
        if nodes:
            lines.append(f" del {', '.join(self.variables[n] for n in nodes)}")

    def _text(self, arg: Any) -> str:
        if isinstance(arg, fx.Node):
            if arg.op == "get_attr":
                return self._name(operator.attrgetter(str(arg.target))(self.module), "c")
            return self.variables[arg]
        if arg is None or arg is True or arg is False or type(arg) is int:
            return repr(arg)
        if isinstance(arg, (list, tuple)) and _holds_nodes(arg):
            items = ", ".join(map(self._text, arg))
            return f"[{items}]" if isinstance(arg, list) else f"({items},)"
        if isinstance(arg, list | tuple):
            return self._name(arg, "c", key=(type(arg), repr(arg)))
        if isinstance(arg, Mapping) and _holds_nodes(list(arg.values())):
            return "{" + ", ".join(f"{k!r}: {self._text(v)}" for k, v in arg.items()) + "}"
        return self._name(arg, "c", key=(type(arg), repr(arg)))

    def _name(self, thing: Any, prefix: str, *, key: Any = None) -> str:
        key = id(thing) if key is None else key
        if key not in self.bound:
            self.bound[key] = f"{prefix}{len(self.bound)}"
            self.names[self.bound[key]] = thing
        return self.bound[key]


def _reduces_to_scalar(node: fx.Node) -> bool:
    made = node.meta.get("val")
    if not isinstance(made, torch.Tensor) or made.dim() or not node.all_input_nodes:
        return False
    read = [arg.meta.get("val") for arg in node.all_input_nodes]
    return made.untyped_storage().nbytes() == made.element_size() and any(
        isinstance(t, torch.Tensor) and t.numel() > 1 for t in read
    )


def shrink(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a storage of its own size.

    Some reductions (mse_loss, smooth_l1_loss, binary_cross_entropy) hand over a scalar in the
    storage of their unreduced result, which would live as long as the loss does.
    """
    if tensor.untyped_storage().nbytes() > tensor.nbytes:
        return tensor.clone()
    return tensor


def _holds_nodes(items: Sequence[Any]) -> bool:
    return any(
        isinstance(i, fx.Node) or (isinstance(i, (list, tuple)) and _holds_nodes(i)) for i in items
    )
