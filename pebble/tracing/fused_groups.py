"""Which nodes of a joint graph a compiler computes inside the kernels that read them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from pebble.tracing.aten_rules import has_effect, may_repeat
from pebble.tracing.signature import StepSignature
from pebble.tracing.torch_private.operators import OpOverload, op_name
from pebble.tracing.torch_private.storages import storage_id

_POINTWISE = frozenset(
    {
        "aten::_to_copy",
        "aten::clone",
        "aten::copy",
        "aten::full",
        "aten::full_like",
        "aten::scalar_tensor",
        "aten::where",
        "prims::convert_element_type",
        "prims::iota",
        "prims::inductor_lookup_seed",
        "prims::inductor_random",
        "prims::inductor_randint",
    }
)
_REDUCTIONS = frozenset(
    {
        f"aten::{name}"
        for name in (
            "sum", "mean", "amax", "amin", "max", "min", "prod", "any", "all", "var_mean", "var",
            "argmax", "argmin", "logsumexp",
        )
    }
)  # fmt: skip
_REUSED_WITH_CARE = frozenset(
    {f"aten::{name}" for name in ("exp", "log", "log1p", "log2", "log10", "sigmoid", "tanh")}
)
"""Inductor stores these on a CPU where they are read twice."""

MOST_READS = 4
"""Tensors that a chain may read where it is written out more than once (inductor's own limit)."""
MOST_READS_ONCE = 8
"""The same where it has a single reader."""
MOST_NODES = 40
"""Nodes of a chain: inductor stores a chain of more than 50 operations."""
_NARROWER = 1.5


def is_pointwise(node: fx.Node) -> bool:
    """Whether each element of a node's result depends on an element of each of its inputs."""
    target = node.target
    if not isinstance(target, OpOverload) or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    return torch.Tag.pointwise in target.tags or op_name(target) in _POINTWISE


def is_fusible(node: fx.Node) -> bool:
    """Whether a compiler writes a loop for a node, into which it takes what the node reads."""
    return is_pointwise(node) or op_name(node.target) in _REDUCTIONS


def inlined_nodes(joint: fx.GraphModule, signature: StepSignature) -> frozenset[fx.Node]:
    """Nodes that occupy no memory: their readers' kernels compute them from what they read.

    A pointwise node is inlined unless something makes its values come to memory: it is an output;
    a product, a convolution or another library kernel reads it; the chain behind it reads too
    many tensors; or the backward half reads it and it is narrower than what it is made of, so
    that it is worth to be saved. Views of inlined nodes are inlined as well.

    Notes
    -----
    The rules are those by which inductor stores a pointwise result (`realize_reads_threshold` and
    the like in its configuration); what is worth to be saved is ours.
    """
    return _Groups(joint, signature).find()


@dataclass
class _Cone:
    """What an inlined node is made of: bytes by leaf, and how many nodes stand between."""

    leaves: Mapping[int, int]
    nodes: int
    careful: bool


@dataclass
class _Groups:
    joint: fx.GraphModule
    signature: StepSignature
    cones: dict[fx.Node, _Cone] = field(default_factory=dict)

    def find(self) -> frozenset[fx.Node]:
        outputs = {*self.signature.handed, *self.signature.gradients, *self.signature.kept}
        after = self._backward_nodes()
        for node in self.joint.graph.nodes:
            if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
                continue
            if node in outputs or _reaches(node, outputs):
                continue
            base = view_base(node)
            if base is not None:
                if base in self.cones and node not in outputs:
                    self.cones[node] = self.cones[base]
                continue
            if not is_pointwise(node) or has_effect(node) or not may_repeat(node):
                continue
            cone = self._cone(node)
            if not self._stored(node, cone, after):
                self.cones[node] = cone
        return frozenset(self.cones)

    def _backward_nodes(self) -> set[fx.Node]:
        after = set(self.signature.tangents)
        for node in self.joint.graph.nodes:
            if not after.isdisjoint(node.all_input_nodes):
                after.add(node)
        return after

    def _cone(self, node: fx.Node) -> _Cone:
        leaves: dict[int, int] = {}
        nodes, careful = 1, op_name(node.target) in _REUSED_WITH_CARE
        for arg in node.all_input_nodes:
            cone = self.cones.get(arg)
            if cone is not None:
                leaves |= cone.leaves
                nodes, careful = nodes + cone.nodes, careful or cone.careful
            elif isinstance(arg.meta.get("val"), torch.Tensor):
                storage = arg.meta["val"].untyped_storage()
                leaves[storage_id(storage)] = storage.nbytes()
        return _Cone(leaves, nodes, careful)

    def _stored(self, node: fx.Node, cone: _Cone, after: set[fx.Node]) -> bool:
        readers = list(_readers(node))
        if not readers or not all(map(is_fusible, readers)):
            return True
        if len(cone.leaves) > MOST_READS_ONCE or cone.nodes > MOST_NODES:
            return True
        own = node not in after
        same_half = [r for r in readers if (r not in after) == own]
        several = len(same_half) > 1
        if several and (len(cone.leaves) > MOST_READS or (cone.careful and own)):
            return True
        crosses = own and len(same_half) < len(readers)
        return crosses and sum(cone.leaves.values()) > _NARROWER * _bytes(node)


def view_base(node: fx.Node) -> fx.Node | None:
    """The node whose storage a node shows; None if it has a storage of its own."""
    made = node.meta.get("val")
    if not isinstance(made, torch.Tensor) or node.target is operator.getitem:
        return None
    own = storage_id(made.untyped_storage())
    for arg in node.all_input_nodes:
        given = arg.meta.get("val")
        if isinstance(given, torch.Tensor) and storage_id(given.untyped_storage()) == own:
            return arg
    return None


def _readers(node: fx.Node) -> Iterable[fx.Node]:
    """Nodes that read a node or a view of it."""
    for user in node.users:
        if view_base(user) is not None:
            yield from _readers(user)
        else:
            yield user


def _reaches(node: fx.Node, outputs: set[Any]) -> bool:
    """Whether a view of the node is an output."""
    return any(
        user in outputs or _reaches(user, outputs)
        for user in node.users
        if view_base(user) is not None
    )


def _bytes(node: fx.Node) -> int:
    made: torch.Tensor = node.meta["val"]
    return int(made.untyped_storage().nbytes())
