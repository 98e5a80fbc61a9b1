"""Random graphs, the same for the same seed."""

from __future__ import annotations

import random
from itertools import pairwise

from pebble.games.literature.edges import graph_of_edges
from pebble.games.literature.sizes import require_least, require_room
from pebble.graph import Graph


def random_dag(n: int, density: float = 0.35, *, seed: int = 0, weighted: bool = False) -> Graph:
    """A random DAG: each pair is joined with the given probability, at most 3 reads a node.

    With `weighted`, sizes are uniform in 1..5 and costs in 1..9.
    """
    require_least(n=n)
    require_room("random graph", n, 3 * n, n * (n - 1) // 2)
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
    require_least(n=n, width=width)
    wide = min(width + width // 2, n)
    require_room("layered graph", n, n * wide // 5)
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
