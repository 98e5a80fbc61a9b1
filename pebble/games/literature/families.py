"""Graph families of the literature: each function makes a Graph with one node for each value."""

from __future__ import annotations

from collections.abc import Callable

from pebble.games.literature.edges import graph_of_edges
from pebble.games.literature.random_graphs import random_dag, random_layered
from pebble.games.literature.sizes import bounded_power, require_least, require_room
from pebble.graph import Graph


def path(n: int) -> Graph:
    """The path of n nodes.

    Examples
    --------
    >>> len(path(5).ops)
    5
    """
    require_least(n=n)
    require_room("path", n, n - 1)
    return graph_of_edges(n, [(i, i + 1) for i in range(n - 1)], name=f"path:{n}")


def tree(arity: int, height: int) -> Graph:
    """The complete tree of an arity and a height in edges; leaves first, the root is the target."""
    require_least(arity=arity, height=height)
    leaves = bounded_power(arity, height)
    require_room("tree", leaves + height, 2 * leaves)
    level, edges, n = list(range(leaves)), [], leaves
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
    require_least(height=height)
    require_room("pyramid", (height + 1) * (height + 2) // 2, height * (height + 1))
    level, edges, n = list(range(height + 1)), [], height + 1
    while len(level) > 1:
        above = list(range(n, n + len(level) - 1))
        edges += [(u, w) for i, w in enumerate(above) for u in (level[i], level[i + 1])]
        n, level = n + len(above), above
    return graph_of_edges(n, edges, name=f"pyramid:{height}")


def grid(rows: int, columns: int) -> Graph:
    """The grid where each node reads its neighbours above and to the left."""
    require_least(rows=rows, columns=columns)
    require_room("grid", rows * columns, 2 * rows * columns)
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
    require_least(log2n=log2n)
    width = bounded_power(2, log2n)
    require_room("butterfly", width * (log2n + 1), 2 * width * log2n)
    edges = [
        (rank * width + j, (rank + 1) * width + i)
        for rank in range(log2n)
        for i in range(width)
        for j in (i, i ^ (1 << rank))
    ]
    return graph_of_edges(width * (log2n + 1), edges, name=f"fft:{log2n}")


def bipartite_stack(width: int, layers: int) -> Graph:
    """A stack of complete bipartite graphs, with `layers` layers of edges."""
    require_least(width=width, layers=layers)
    require_room("stack", width * (layers + 1), width * width * layers)
    edges = [
        (t * width + i, (t + 1) * width + j)
        for t in range(layers)
        for i in range(width)
        for j in range(width)
    ]
    return graph_of_edges(width * (layers + 1), edges, name=f"bipstack:{width}x{layers}")


def bit_reversal(log2n: int) -> Graph:
    """Two chains of 2**log2n nodes; the second one reads the first in bit-reversed order."""
    require_least(log2n=log2n)
    n = bounded_power(2, log2n)
    require_room("pair of chains", 2 * n, 3 * n)
    edges = [(i, i + 1) for i in range(n - 1)] + [(n + i, n + i + 1) for i in range(n - 1)]
    edges += [(i, n + int(f"{i:0{log2n}b}"[::-1], 2) if log2n else n) for i in range(n)]
    return graph_of_edges(2 * n, edges, name=f"bitrev:{log2n}")


def training_chain(n: int) -> Graph:
    """A chain of n forward nodes and n backward ones; backward node i reads forward node i.

    The first backward node stands for the loss and reads the last forward node.
    """
    require_least(n=n)
    require_room("training chain", 2 * n, 3 * n)
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
    require_least(rows=rows, inner=inner, columns=columns)
    products = rows * inner * columns
    require_room("matrix product", rows * inner + inner * columns + 2 * products, 4 * products)
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
