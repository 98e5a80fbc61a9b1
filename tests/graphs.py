"""Makers of graphs that the tests of several rooms share: random ones, chains, training steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import networkx as nx

from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule


def keep_peak(graph: Graph) -> int:
    """The peak of running every op once in the reference order."""
    return simulate(graph, Schedule.keep_all(graph)).peak


def budgets(graph: Graph) -> list[int]:
    """From the largest working set to the peak of keeping all, four at most."""
    least, most = Problem(graph, 0).working_set_bound, keep_peak(graph)
    return sorted({least, least + (most - least) // 4, least + (most - least) // 2, most})


# -- random graphs ---------------------------------------------------------------------------


def random_graph(
    seed: int,
    n: int,
    *,
    reads: tuple[int, int] = (1, 3),
    reach: int | None = None,
    far: float = 0.0,
    makes: Sequence[int] = (1,),
    size: tuple[int, int] = (0, 9),
    cost: tuple[int, int] = (0, 9),
    workspace: Sequence[int] = (0,),
    pinned: float = 0.0,
    once: float = 0.0,
    external: bool = False,
) -> Graph:
    """A graph of `n` ops, the first half of them forward.

    Parameters
    ----------
    reads : (int, int)
        Fewest and most values that an op reads, of the last `reach` (of all, without one).
    far : float
        The chance that it reads one of all values, too.
    makes, workspace : sequence of int
        Drawn from for each op.
    size, cost : (int, int)
        Least and most.
    pinned, once : float
        The chance that a value is pinned, and that an op may run only once.
    external : bool
        Whether there is a value from outside.
    """
    rng = random.Random(seed)
    values = [Value("outside", 50, external=True)] if external else []
    ops = []
    for i in range(n):
        near = range(max(0, len(values) - (reach or len(values))), len(values))
        inputs = set(rng.sample(near, min(rng.randint(*reads), len(near))))
        if values and rng.random() < far:
            inputs.add(rng.randrange(len(values)))
        outputs = range(len(values), len(values) + (rng.choice(makes) if i else max(makes)))
        values += [
            Value(f"v{v}", rng.randint(*size), pinned=rng.random() < pinned) for v in outputs
        ]
        ops.append(
            Op(
                f"o{i}", rng.randint(*cost), tuple(sorted(inputs)), tuple(outputs),
                workspace=rng.choice(workspace), recomputable=rng.random() >= once,
                phase=Phase.FORWARD if i < n / 2 else Phase.BACKWARD,
            )
        )  # fmt: skip
    return Graph(ops, values)


def rich_graph(seed: int, n: int | None = None, **features: Any) -> Graph:
    """Everything at once: several outputs, pinned and external values, workspace, run-once ops."""
    n = random.Random(seed).randint(3, 7) if n is None else n
    given = {
        "reads": (0, 3), "makes": (1, 1, 2), "workspace": (0, 0, 4), "pinned": 0.12, "once": 0.15,
        "external": True,
    }  # fmt: skip
    return random_graph(seed, n, **(given | features))


def plain_graph(seed: int, most: int = 9) -> Graph:
    """Three to `most` ops that make one value each; all sizes and costs above zero."""
    n = random.Random(seed).randint(3, most)
    return random_graph(seed, n, reach=5, size=(1, 9), cost=(1, 9))


def skipping_graph(seed: int, n: int, *, reach: int = 12) -> Graph:
    """One op makes one value, which is read nearby and, sometimes, far away."""
    return random_graph(seed, n, reads=(1, 2), reach=reach, far=0.8, size=(1, 40), cost=(0, 40))


def layered_graph(n: int, seed: int) -> Graph:
    """A random layered graph with skips, one value an op."""
    rng = random.Random(seed)
    graph = nx.DiGraph()
    width = max(2, round(n**0.5 / 1.5))
    for i in range(n):
        graph.add_node(i, size=rng.randint(25, 175), cost=rng.randint(0, 999))
        layer = i // width
        for j in range(max(0, (layer - 1) * width), layer * width):
            if rng.random() < 0.25:
                graph.add_edge(j, i)
        if layer:
            graph.add_edge(rng.randrange(max(0, (layer - 4) * width), layer * width), i)
    return Graph.from_networkx(graph)


# -- training steps --------------------------------------------------------------------------


def training_chain(length: int, *, size: int = 1, cost: int = 1) -> Graph:
    """Forward ops f0 .. and backward ops b0 ..; each b reads a gradient and one f, last first."""
    graph = nx.DiGraph()
    names = [f"f{i}" for i in range(length)] + [f"b{i}" for i in range(length)]
    graph.add_nodes_from(names, size=size, cost=cost)
    for i in range(1, length):
        graph.add_edge(f"f{i - 1}", f"f{i}")
        graph.add_edge(f"b{i - 1}", f"b{i}")
    for i in range(length):
        graph.add_edge(f"f{length - 1 - i}", f"b{i}")
    return Graph.from_networkx(graph)


class Builder:
    """Ops and values as they come; each `add` makes the values that it names the sizes of."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.values: list[Value] = []

    def value(self, size: int, **more: Any) -> int:
        """A value that an op made with `op` will make, or an external one."""
        self.values.append(Value(f"v{len(self.values)}", size, **more))
        return len(self.values) - 1

    def op(
        self, name: str, cost: int, reads: Sequence[int], makes: Sequence[int], **more: Any
    ) -> int:
        """An op that makes given values; its index."""
        inputs = tuple(dict.fromkeys(reads))
        self.ops.append(Op(f"{name}{len(self.ops)}", cost, inputs, tuple(makes), **more))
        return len(self.ops) - 1

    def add(
        self, name: str, cost: int, reads: Sequence[int], sizes: Sequence[int], **more: Any
    ) -> int:
        """An op that makes values of these sizes; the index of the first."""
        pinned = bool(more.pop("pinned", False))
        made = [self.value(size, pinned=pinned) for size in sizes]
        self.op(name, cost, reads, made, **more)
        return made[0]

    def turn(self, reads: Sequence[int], size: int = 1) -> int:
        """The boundary op; the gradient that the backward half begins with."""
        grad = self.add("boundary", 0, reads, [size], recomputable=False)
        self.boundary = len(self.ops) - 1
        return grad

    def back(
        self, name: str, cost: int, reads: Sequence[int], sizes: Sequence[int], **more: Any
    ) -> int:
        """An op of the backward half."""
        return self.add(name, cost, reads, sizes, phase=Phase.BACKWARD, **more)

    def graph(self, name: str = "graph") -> Graph:
        """The training step."""
        return Graph(self.ops, self.values, name=name, boundary=self.boundary)


def transformer(layers: int, *, dropout: bool = False) -> Graph:
    """Joint graph of pre-norm blocks: linear ops cost much, norms and activations little."""
    b = Builder()
    x = b.add("embed", 8, [], [64])
    kept = []
    for _ in range(layers):
        ln = b.add("norm", 9, [x], [64, 1, 1])
        qkv = b.add("qkv", 300, [ln], [192])
        att = b.add("attention", 150, [qkv], [64, 4])
        proj = b.add("proj", 100, [att], [64])
        if dropout:
            proj = b.add("dropout", 8, [proj], [64, 16], recomputable=False)
        mid = b.add("add", 6, [x, proj], [64])
        ln2 = b.add("norm", 9, [mid], [64, 1, 1])
        wide = b.add("up", 400, [ln2], [256])
        act = b.add("gelu", 25, [wide], [256])
        down = b.add("down", 400, [act], [64])
        kept.append((x, ln, qkv, att, proj, mid, ln2, wide, act))
        x = b.add("add", 6, [mid, down], [64])
    loss = b.add("loss", 100, [x], [1], pinned=True)
    g = b.back("dloss", 100, [b.turn([loss]), x], [64])
    for x, ln, qkv, att, proj, mid, ln2, wide, act in reversed(kept):
        b.back("dW", 400, [g, act], [8], pinned=True)
        h = b.back("ddown", 400, [g], [256])
        h = b.back("dgelu", 40, [h, wide], [256])
        b.back("dW", 400, [h, ln2], [8], pinned=True)
        h = b.back("dup", 400, [h], [64])
        h = b.back("dnorm", 15, [h, mid, ln2 + 1, ln2 + 2], [64])
        g = b.back("gadd", 6, [g, h], [64])
        h = b.back("ddrop", 8, [g, proj + 1], [64]) if dropout else g
        b.back("dW", 100, [h, att], [4], pinned=True)
        h = b.back("dproj", 100, [h], [64])
        h = b.back("datt", 350, [h, qkv, att, att + 1], [192], workspace=64)
        b.back("dW", 300, [h, ln], [8], pinned=True)
        h = b.back("dqkv", 300, [h], [64])
        h = b.back("dnorm", 15, [h, x, ln + 1, ln + 2], [64])
        g = b.back("gadd", 6, [g, h], [64])
    return b.graph(f"transformer-{layers}")


def residual_net(layers: int, seed: int) -> Graph:
    """Layers of three ops in a row with a skip around them, and the backward of each."""
    b, rng = Builder(), random.Random(seed)
    state = b.add("in", 4, [b.value(9, external=True)], [16])
    saved = []
    for _ in range(layers):
        inner = [state]
        for _ in range(3):
            inner.append(b.add("f", rng.choice((1, 30)), [inner[-1]], [rng.choice((8, 16, 64))]))
        saved.append(inner)
        state = b.add("add", 1, [state, inner[-1]], [16])
    grad = b.turn([b.add("loss", 1, [state], [1], pinned=True)])
    for inner in reversed(saved):
        for v in reversed(inner):
            grad = b.back("b", 20, [grad, v], [16])
    return b.graph()


def masked_net(layers: int, inside: int = 5) -> Graph:
    """Layers of large cheap ops, small dear ones, and a mask that may not be drawn again."""
    b = Builder()
    outside = b.value(100, external=True)
    state = b.add("embed", 5, [outside], [20])
    saved = []
    for _ in range(layers):
        mask = b.add("mask", 1, [outside], [2], recomputable=False)
        reads, keep = [state], [state, mask]
        for k in range(inside):
            out = b.add("f", 1 if k % 2 else 30, reads, [80 if k % 2 else 20], workspace=k)
            reads, keep = [out, mask], [*keep, out]
        state = b.add("add", 1, [keep[0], reads[0]], [20])
        saved.append(keep)
    grad = b.turn([b.add("loss", 5, [state], [1], pinned=True)])
    for keep in reversed(saved):
        for k in reversed(range(inside)):
            out, weight = b.value(20), b.value(3, pinned=True)
            b.op("b", 40, [grad, keep[k + 2], keep[1]], [out, weight], phase=Phase.BACKWARD)
            grad = out
    return b.graph()


def wide_net(layers: int, *, width: int = 16) -> Graph:
    """Layers of a large cheap op and a dear small one; the backward reads both."""
    b = Builder()
    state = b.add("in", 9, [], [width])
    saved = []
    for _ in range(layers):
        wide = b.add("wide", 2, [state], [4 * width])
        saved.append((state, wide))
        state = b.add("mm", 40, [wide], [width])
    grad = b.turn([state])
    for pair in reversed(saved):
        grad = b.back("b", 80, [grad, *pair], [width])
    return b.graph()


def random_training_graph(seed: int) -> Graph:
    """A forward half, a boundary op and a backward half, with everything a real one has."""
    b, rng = Builder(), random.Random(seed)

    def make(name: str, reads: Sequence[int], phase: Phase, *, last: bool = False) -> list[int]:
        made = []
        for k in range(rng.choice((1, 1, 1, 2, 3))):
            pinned = (last and k == 0) or rng.random() < 0.08
            made.append(b.value(rng.randint(0, 9), pinned=pinned))
        workspace, keep = rng.choice((0, 0, 3)), rng.random() < 0.15
        cost = rng.randint(0, 9)
        b.op(name, cost, reads, made, workspace=workspace, phase=phase, recomputable=not keep)
        return made

    made = [b.value(50, external=True)]
    for _ in range(rng.randint(2, 9)):
        reads = {rng.choice(made[-3:]), *(v for v in made if rng.random() < 0.1)}
        made += make("f", sorted(reads), Phase.FORWARD)
    loss = b.values[made[-1]]
    b.values[made[-1]] = Value(loss.name, loss.size, pinned=True)
    grad = b.turn([v for v in made if b.values[v].pinned])
    for _ in range(rng.randint(1, 9)):
        reads = {grad, *(v for v in made if rng.random() < 0.3)}
        grad = make("b", sorted(reads), Phase.BACKWARD, last=rng.random() < 0.3)[-1]
    return b.graph()
