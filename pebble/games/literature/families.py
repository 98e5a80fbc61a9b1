"""Graph families of the literature: each function makes a Graph with one node for each value."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from pebble.errors import InvalidArgument
from pebble.graph import Graph, Op, Phase, Value


def graph_of_edges(
    n: int,
    edges: Iterable[tuple[int, int]],
    *,
    name: str = "graph",
    names: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    costs: Sequence[int] | None = None,
    targets: Iterable[int] | None = None,
    backward: Iterable[int] = (),
) -> Graph:
    """A graph from pairs (u, v), v reads u, of nodes 0 to n - 1 in a topological order.

    Parameters
    ----------
    targets : iterable of int, optional
        Nodes whose values are pinned; without any, the games aim at the sinks.
    backward : iterable of int
        Nodes of the backward phase.
    """
    reads: list[set[int]] = [set() for _ in range(n)]
    for u, v in edges:
        reads[v].add(u)
    pinned, late = set(targets or ()), set(backward)
    labels = [str(v) for v in range(n)] if names is None else list(names)
    ops = [
        Op(
            labels[v],
            1 if costs is None else costs[v],
            tuple(sorted(reads[v])),
            (v,),
            phase=Phase.BACKWARD if v in late else Phase.FORWARD,
        )
        for v in range(n)
    ]
    values = [
        Value(labels[v], 1 if sizes is None else sizes[v], pinned=v in pinned) for v in range(n)
    ]
    return Graph(ops, values, name=name)


def _checked(**numbers: int) -> None:
    for name, number in numbers.items():
        least = 0 if name in ("height", "log2n") else 1
        if number < least:
            what = "number of nodes" if name == "n" else name
            raise InvalidArgument(f"The {what} is {number}; it must be at least {least}.")


def path(n: int) -> Graph:
    """The path of n nodes.

    Examples
    --------
    >>> len(path(5).ops)
    5
    """
    _checked(n=n)
    return graph_of_edges(n, [(i, i + 1) for i in range(n - 1)], name=f"path:{n}")


def tree(arity: int, height: int) -> Graph:
    """The complete tree of an arity and a height in edges; leaves first, the root is the target."""
    _checked(arity=arity, height=height)
    level, edges, n = list(range(arity**height)), [], arity**height
    while len(level) > 1:
        parents = list(range(n, n + len(level) // arity))
        edges += [(u, parents[i // arity]) for i, u in enumerate(level)]
        n, level = n + len(parents), parents
    return graph_of_edges(n, edges, name=f"tree:{arity}x{height}")


def pyramid(height: int) -> Graph:
    """The pyramid of a height in edges: height + 1 sources, one apex.

    Examples
    --------
    >>> len(pyramid(2).ops)
    6
    """
    _checked(height=height)
    level, edges, n = list(range(height + 1)), [], height + 1
    while len(level) > 1:
        above = list(range(n, n + len(level) - 1))
        edges += [(u, w) for i, w in enumerate(above) for u in (level[i], level[i + 1])]
        n, level = n + len(above), above
    return graph_of_edges(n, edges, name=f"pyramid:{height}")


def grid(rows: int, columns: int) -> Graph:
    """The grid where each node reads its neighbours above and to the left."""
    _checked(rows=rows, columns=columns)
    edges = []
    for r in range(rows):
        for c in range(columns):
            v = r * columns + c
            edges += [(v - 1, v)] if c else []
            edges += [(v - columns, v)] if r else []
    return graph_of_edges(rows * columns, edges, name=f"grid:{rows}x{columns}")


def butterfly(log2n: int) -> Graph:
    """The butterfly of the fast Fourier transform on 2**log2n points.

    log2n + 1 ranks of 2**log2n nodes; node i of rank r + 1 reads i and i with bit r flipped.
    """
    _checked(log2n=log2n)
    width = 2**log2n
    edges = [
        (rank * width + j, (rank + 1) * width + i)
        for rank in range(log2n)
        for i in range(width)
        for j in (i, i ^ (1 << rank))
    ]
    return graph_of_edges(width * (log2n + 1), edges, name=f"fft:{log2n}")


def bipartite_stack(width: int, layers: int) -> Graph:
    """A stack of complete bipartite graphs, with `layers` layers of edges."""
    _checked(width=width, layers=layers)
    edges = [
        (t * width + i, (t + 1) * width + j)
        for t in range(layers)
        for i in range(width)
        for j in range(width)
    ]
    return graph_of_edges(width * (layers + 1), edges, name=f"bipstack:{width}x{layers}")


def bit_reversal(log2n: int) -> Graph:
    """Two chains of 2**log2n nodes; the second one reads the first in bit-reversed order."""
    _checked(log2n=log2n)
    n = 2**log2n
    edges = [(i, i + 1) for i in range(n - 1)] + [(n + i, n + i + 1) for i in range(n - 1)]
    edges += [(i, n + int(f"{i:0{log2n}b}"[::-1], 2) if log2n else n) for i in range(n)]
    return graph_of_edges(2 * n, edges, name=f"bitrev:{log2n}")


def training_chain(n: int) -> Graph:
    """A chain of n forward nodes and n backward ones; backward node i reads forward node i.

    The first backward node stands for the loss and reads the last forward node.
    """
    _checked(n=n)
    edges = [(i, i + 1) for i in range(2 * n - 1)]
    edges += [(i, 2 * n - 1 - i) for i in range(n - 1)]
    names = [f"f{i}" for i in range(n)] + [f"b{i}" for i in reversed(range(n))]
    return graph_of_edges(
        2 * n, edges, name=f"trainchain:{n}", names=names, backward=range(n, 2 * n)
    )


def matrix_product(rows: int, inner: int, columns: int) -> Graph:
    """The product of a rows x inner and an inner x columns matrix.

    Inputs a and b, inner products one by one, and a chain of partial sums for each entry.
    """
    _checked(rows=rows, inner=inner, columns=columns)
    names = [f"a{i}.{k}" for i in range(rows) for k in range(inner)]
    names += [f"b{k}.{j}" for k in range(inner) for j in range(columns)]
    first_b, edges = rows * inner, []
    for i in range(rows):
        for j in range(columns):
            total = -1
            for k in range(inner):
                product = len(names)
                names.append(f"p{i}.{k}.{j}")
                edges += [(i * inner + k, product), (first_b + k * columns + j, product)]
                if total >= 0:
                    edges += [(total, product + 1), (product, product + 1)]
                    names.append(f"s{i}.{k}.{j}")
                total = len(names) - 1
    label = f"matmul:{rows}x{inner}x{columns}"
    return graph_of_edges(len(names), edges, name=label, names=names)


def random_dag(n: int, density: float = 0.35, *, seed: int = 0, weighted: bool = False) -> Graph:
    """A random DAG: each pair is joined with the given probability, at most 3 reads a node.

    With `weighted`, sizes are uniform in 1..5 and costs in 1..9.
    """
    _checked(n=n)
    rng = random.Random(seed * 1_000_003 + n)
    edges = []
    for v in range(n):
        reads = [u for u in range(v) if rng.random() < density]
        edges += [(u, v) for u in (rng.sample(reads, 3) if len(reads) > 3 else reads)]
    return graph_of_edges(
        n,
        edges,
        name=f"random:{n}x{seed}",
        sizes=[rng.randint(1, 5) for _ in range(n)] if weighted else None,
        costs=[rng.randint(1, 9) for _ in range(n)] if weighted else None,
    )


def random_layered(n: int, width: int = 5, *, seed: int = 0, weighted: bool = False) -> Graph:
    """A random layered DAG of a mean width, with one source and one sink.

    Layers have between half and one and a half times the width. Neighbouring layers are joined
    with probability 0.2 plus one parent a node, and about one edge in seven skips layers.
    """
    _checked(n=n, width=width)
    rng = random.Random(seed * 1_000_003 + 7 * n + width)
    layers, v = [[0]], 1
    while v < n - 1:
        size = min(rng.randint(max(1, width // 2), width + width // 2), n - 1 - v)
        layers.append(list(range(v, v + size)))
        v += size
    if n > 1:
        layers.append([n - 1])
    edges = set()
    for above, layer in pairwise(layers):
        for w in layer:
            edges.add((rng.choice(above), w))
            edges |= {(u, w) for u in above if rng.random() < 0.2}
    for _ in range(len(edges) // 7 if len(layers) > 2 else 0):
        i, j = sorted(rng.sample(range(len(layers)), 2))
        if j - i >= 2:
            edges.add((rng.choice(layers[i]), rng.choice(layers[j])))
    read = {u for u, _ in edges}
    edges |= {(u, n - 1) for u in range(n - 1) if u not in read}
    return graph_of_edges(
        n,
        sorted(edges),
        name=f"layered:{n}x{width}x{seed}",
        sizes=[10 * rng.randint(1, 400) for _ in range(n)] if weighted else None,
        costs=[rng.randint(0, 999) for _ in range(n)] if weighted else None,
    )


FAMILIES: dict[str, Callable[..., Graph]] = {
    "path": path,
    "tree": tree,
    "pyramid": pyramid,
    "grid": grid,
    "fft": butterfly,
    "butterfly": butterfly,
    "bipstack": bipartite_stack,
    "bitrev": bit_reversal,
    "trainchain": training_chain,
    "matmul": matrix_product,
    "random": lambda n, seed=0: random_dag(n, seed=seed),
    "layered": lambda n, width=5, seed=0: random_layered(n, width, seed=seed),
}
"""Graphs by name; the arguments are numbers."""
