"""A half of a step as a Python function that frees every tensor at its last use."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from pebble.tracing.scalar_storages import reduces_to_scalar, shrink
from pebble.tracing.torch_private.operators import dispatcher_entry

Boxed = Callable[..., tuple[Any, ...]]


def hand_over(tensor: torch.Tensor, index: int) -> torch.Tensor:
    """Stand where gradient `index` of a backward half is finished.

    `compile_boxed` puts the caller's own function there.
    """
    return tensor


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
            if reduces_to_scalar(node):
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


def _holds_nodes(items: Sequence[Any]) -> bool:
    return any(
        isinstance(i, fx.Node) or (isinstance(i, (list, tuple)) and _holds_nodes(i)) for i in items
    )
