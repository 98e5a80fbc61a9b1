"""A joint graph of open sizes as it is at given sizes: the same nodes on tensors of those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.fake_tensors import FakeTensorMode, fake_mode_of
from pebble.tracing.torch_private.joint_export import EndKind, JointTrace
from pebble.tracing.torch_private.symbolic_sizes import Numbers, is_symbolic, number


def at_sizes(joint: JointTrace, tensors: Sequence[torch.Tensor], numbers: Numbers) -> JointTrace:
    """A trace of fixed sizes from one of open sizes; nothing of the model is traced again.

    What is computed of sizes alone becomes a number; every op runs once on tensors without memory.

    Parameters
    ----------
    joint : JointTrace
        Of open sizes; not changed.
    tensors : sequence of Tensor
        Arguments of the forward graph, of the sizes wanted.
    numbers : mapping
        Of the symbols.
    """
    mode = fake_mode_of(*tensors) or FakeTensorMode()
    return _Sizing(joint, mode, numbers).run(tensors)


class _Sizing:
    """Copies the graph node by node."""

    def __init__(self, joint: JointTrace, mode: FakeTensorMode, numbers: Numbers) -> None:
        self.joint = joint
        self.mode = mode
        self.numbers = numbers
        self.graph = fx.Graph()
        self.made: dict[fx.Node, Any] = {}  # a new node, or a number
        self.found: dict[Any, Any] = {}  # the number of each size: layers have the same ones

    def run(self, tensors: Sequence[torch.Tensor]) -> JointTrace:
        module = self.joint.graph_module
        ends = iter(self.joint.inputs)
        with self.mode, torch.no_grad():
            for node in module.graph.nodes:
                if node.op == "placeholder":
                    self._placeholder(node, next(ends), tensors)
                elif node.op == "get_attr":
                    self._attribute(node)
                elif node.op == "call_function":
                    self._call(node)
                else:
                    self._copy(node)
        self.graph.set_codegen(fx.graph.CodeGen())
        sized = fx.GraphModule(module, self.graph)
        return JointTrace(sized, self.joint.inputs, self.joint.outputs)

    def _copy(self, node: fx.Node, value: Any = None) -> fx.Node:
        new = self.graph.node_copy(node, self._argument)
        new.meta = {k: v for k, v in node.meta.items() if k not in ("val", "tensor_meta")}
        if value is not None or "val" in node.meta:
            new.meta["val"] = value
        self.made[node] = new
        return new

    def _argument(self, node: fx.Node) -> Any:
        return self.made[node]

    def _placeholder(
        self, node: fx.Node, end: tuple[EndKind, int] | None, tensors: Sequence[torch.Tensor]
    ) -> None:
        if end is not None and end[0] is EndKind.INPUT:
            value: torch.Tensor = self.mode.from_tensor(tensors[end[1]], static_shapes=True)
        else:
            value = self._like(node.meta["val"])
        self._copy(node, value)

    def _number(self, value: Any) -> Any:
        if not is_symbolic(value):
            return value
        key = type(value), value.node.expr
        if key not in self.found:
            self.found[key] = number(value, self.numbers)
        return self.found[key]

    def _like(self, value: torch.Tensor) -> torch.Tensor:
        shape = [self._number(n) for n in value.shape]
        stride = [self._number(n) for n in value.stride()]
        return torch.empty_strided(shape, stride, dtype=value.dtype, device=value.device)

    def _attribute(self, node: fx.Node) -> None:
        held = node.meta.get("val")
        value = self._like(held) if isinstance(held, torch.Tensor) else held
        self._copy(node, value)

    def _call(self, node: fx.Node) -> None:
        args, kwargs = self._given((node.args, node.kwargs), lambda new: new)
        values = self._given((node.args, node.kwargs), lambda new: new.meta["val"])
        target: Any = node.target
        made = target(*values[0], **values[1])
        if is_symbolic(node.meta.get("val")) or isinstance(made, (bool, int, float)):
            self.made[node] = made
            return
        new = self._copy(node, made)
        new.args, new.kwargs = args, kwargs

    def _given(self, tree: Any, of_node: Any) -> Any:
        """Arguments with new nodes, or what they stand for, and numbers in place of sizes."""

        def leaf(node: fx.Node) -> Any:
            found = self.made[node]
            return of_node(found) if isinstance(found, fx.Node) else found

        return fx.node.map_aggregate(
            tree, lambda a: leaf(a) if isinstance(a, fx.Node) else self._number(a)
        )
