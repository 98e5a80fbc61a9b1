"""Random computation graphs of known families, from seeds: for benchmarks, tests and experiments.

Each function takes sizes and a seed and returns a `Graph`; the same arguments give the same graph.
Forward passes (`Node` lists) become training steps by one rule, `training_step`.

>>> graph = chain(8, seed=1)
>>> len(graph.ops), graph == chain(8, seed=1), graph == chain(8, seed=2)
(19, True, False)
>>> [len(make(seed=0).ops) for make in FAMILIES.values()]
[131, 195, 157, 127]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pebble.errors import InvalidArgument
from pebble.graph import Graph, Op, Phase, Value

_LARGEST, _DEAREST = 64, 50


@dataclass(frozen=True)
class Node:
    """An op of a forward pass that makes one value.

    Attributes
    ----------
    reads : tuple of int
        Earlier nodes; -1 is the input of the network.
    size, cost : int
        Bytes of the result; time of one execution, which the backward takes twice.
    """

    reads: tuple[int, ...]
    size: int
    cost: int


def training_step(nodes: Sequence[Node], *, name: str) -> Graph:
    """Forward, boundary and backward of a network whose last node is its loss.

    The backward op of a node reads the gradient of its result and what the node read; it makes
    the gradients of that (sums included), of the same sizes. The gradient of a node that several
    read is complete when the first of them in forward order has contributed.

    Examples
    --------
    >>> graph = training_step([Node((-1,), 4, 1), Node((0,), 4, 1)], name="two")
    >>> [op.name for op in graph.ops]
    ['f0', 'f1', 'boundary', 'b1', 'b0']
    """
    values = [Value("x", _LARGEST, external=True)]
    ops = []
    for i, node in enumerate(nodes):
        values.append(Value(f"v{i}", node.size, pinned=i == len(nodes) - 1))
        reads = tuple(r + 1 for r in node.reads)
        ops.append(Op(f"f{i}", node.cost, reads, (i + 1,), kind="forward"))
    last = len(nodes) - 1
    values.append(Value("tangent", nodes[last].size))
    ops.append(Op("boundary", 0, (last + 1,), (last + 2,), recomputable=False, kind="boundary"))
    boundary = len(ops) - 1
    gradient = {last: last + 2}
    for i in reversed(range(len(nodes))):
        inner = [r for r in nodes[i].reads if r >= 0]
        reads = [gradient[i], *(r + 1 for r in nodes[i].reads)]
        reads += [gradient[r] for r in inner if r in gradient]  # what was summed so far
        made = []
        for r in inner:
            made.append(len(values))
            values.append(Value(f"g{r}.{i}", nodes[r].size))
            gradient[r] = made[-1]
        if not inner:  # the weights' gradient alone
            made.append(len(values))
            values.append(Value(f"w{i}", 1, pinned=True))
        ops.append(
            Op(f"b{i}", 2 * nodes[i].cost, tuple(dict.fromkeys(reads)), tuple(made),
               phase=Phase.BACKWARD, kind="backward")
        )  # fmt: skip
    return Graph(ops, values, name=name, boundary=boundary)


def chain(length: int = 64, *, seed: int = 0, uniform: bool = False) -> Graph:
    """A training step of a chain: each op reads the one before. `uniform`: all alike."""
    _positive("length", length)
    rng = random.Random(seed)
    nodes = [_node(rng, (i - 1,)) for i in range(length)]
    if uniform:
        nodes = [Node((i - 1,), 8, 1) for i in range(length)]
    return training_step([*nodes, Node((length - 1,), 1, 1)], name=f"chain-{length}-{seed}")


def layered(layers: int = 24, width: int = 4, *, seed: int = 0, reads: int = 2) -> Graph:
    """A training step of random layers: each op reads up to `reads` of the layer before.

    One op in eight also reads any earlier one (a skip).
    """
    _positive("layers", layers)
    _positive("width", width)
    rng = random.Random(seed)
    nodes: list[Node] = []
    for layer in range(layers):
        before = list(range(len(nodes) - width, len(nodes))) if layer else [-1]
        for k in range(width):
            picked = {before[k % len(before)]}
            picked.update(rng.choices(before, k=reads - 1))
            if layer > 1 and rng.random() < 0.125:
                picked.add(rng.randrange(len(nodes) - width))
            nodes.append(_node(rng, tuple(sorted(picked))))
    last = tuple(range(len(nodes) - width, len(nodes)))
    return training_step([*nodes, Node(last, 1, 1)], name=f"layered-{layers}x{width}-{seed}")


def unet(depth: int = 5, *, seed: int = 0, convolutions: int = 7) -> Graph:
    """A training step of a U-Net: down and up again, each level read across.

    A level has a quarter of the bytes of the one above, and half of its time.
    """
    _positive("depth", depth)
    _positive("convolutions", convolutions)
    rng = random.Random(seed)
    nodes: list[Node] = []
    across: list[int] = []

    def level(k: int, reads: tuple[int, ...]) -> int:
        size, cost = max(4**depth >> (2 * k), 1), 2**depth >> k
        for _ in range(convolutions):
            nodes.append(Node(reads, size, max(round(cost * rng.uniform(0.5, 2)), 1)))
            reads = (len(nodes) - 1,)
        return reads[0]

    at = -1
    for k in range(depth):
        at = level(k, (at,))
        across.append(at)
    at = level(depth, (at,))
    for k in reversed(range(depth)):
        at = level(k, (across[k], at))
    return training_step([*nodes, Node((at,), 1, 1)], name=f"unet-{depth}-{seed}")


def tree(leaves: int = 64, *, seed: int = 0) -> Graph:
    """An expression: a random binary tree whose every op reads two results. No backward.

    Where each value is one register, Sethi and Ullman's numbering gives the least peak.
    """
    _positive("leaves", leaves)
    rng = random.Random(seed)
    ops: list[Op] = []
    values: list[Value] = []

    def make(size: int, reads: tuple[int, ...]) -> int:
        i = len(ops)
        ops.append(Op(f"t{i}", rng.randint(1, _DEAREST), reads, (i,)))
        values.append(Value(f"t{i}", 1, pinned=size == leaves))
        return i

    def grow(size: int) -> int:
        stack: list[tuple[int, int]] = [(size, 0)]  # (leaves below, children that are done)
        done: list[int] = []
        split: list[int] = []
        while stack:
            below, ready = stack.pop()
            if below == 1:
                done.append(make(below, ()))
            elif ready == 0:
                split.append(rng.randint(1, below - 1))
                stack += [(below, 1), (split[-1], 0)]
            elif ready == 1:
                stack += [(below, 2), (below - split.pop(), 0)]
            else:
                right, left = done.pop(), done.pop()
                done.append(make(below, (left, right)))
        return done[0]

    grow(leaves)
    return Graph(ops, values, name=f"tree-{leaves}-{seed}")


FAMILIES: Mapping[str, Callable[..., Graph]] = {
    "chain": chain,
    "layered": layered,
    "unet": partial(unet, depth=5, convolutions=7),
    "tree": tree,
}
"""Family to generator, each with sizes of its own for `seed=...` alone."""


def _node(rng: random.Random, reads: tuple[int, ...]) -> Node:
    return Node(reads, rng.randint(1, _LARGEST), rng.randint(1, _DEAREST))


def _positive(name: str, number: int) -> None:
    if number < 1:
        raise InvalidArgument(f"{name} is {number}; it must be at least 1.")
