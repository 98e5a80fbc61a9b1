"""The board: a graph as the games see it, one node for each value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pebble.errors import GraphError, InvalidArgument
from pebble.graph import Graph


@dataclass(frozen=True)
class Board:
    """A directed acyclic graph with targets, in a topological order.

    Parameters
    ----------
    names : tuple of str
    preds : tuple of tuple of int
        ``preds[v]`` are the nodes that v reads, all of them before v.
    targets : tuple of int
        The nodes to reach.
    sizes, costs, workspaces : tuple of int
        Weight of a pebble, cost of one placement, and extra weight while it happens. Games that
        are not weighted take 1, 1 and 0.
    name : str

    Raises
    ------
    GraphError
        If a node reads itself or a later one, or a target is no node.

    Examples
    --------
    >>> import networkx as nx
    >>> board = Board.of(nx.path_graph(3, create_using=nx.DiGraph))
    >>> board.preds, board.targets
    (((), (0,), (1,)), (2,))
    """

    names: tuple[str, ...]
    preds: tuple[tuple[int, ...], ...]
    targets: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    costs: tuple[int, ...] = ()
    workspaces: tuple[int, ...] = ()
    name: str = "graph"

    def __post_init__(self) -> None:
        n = len(self.names)
        object.__setattr__(self, "sizes", tuple(self.sizes) or (1,) * n)
        object.__setattr__(self, "costs", tuple(self.costs) or (1,) * n)
        object.__setattr__(self, "workspaces", tuple(self.workspaces) or (0,) * n)
        for v, reads in enumerate(self.preds):
            for u in reads:
                if not 0 <= u < v:
                    raise GraphError(
                        f"Node {self.names[v]!r} of {self.name!r} reads node {u}; list the nodes "
                        "in a topological order."
                    )
        for v in self.targets:
            if not 0 <= v < n:
                raise GraphError(f"Target {v} is no node of {self.name!r}, which has {n}.")

    @classmethod
    def of(cls, graph: Any, targets: Iterable[int | str] | None = None) -> Board:
        """The board of a graph.

        Parameters
        ----------
        graph : Graph, networkx DiGraph or Board
            Each op of a Graph makes one value; its external values are free and no nodes.
        targets : iterable of int or str, optional
            Nodes to reach, by index or name. Default: the pinned values, else the sinks.

        Raises
        ------
        GraphError
            If an op makes no value or several.
        """
        board = graph if isinstance(graph, Board) else _from_graph(graph)
        if targets is None:
            return board
        return replace(board, targets=tuple(sorted({board.index(t) for t in targets})))

    def __len__(self) -> int:
        return len(self.names)

    def index(self, node: int | str) -> int:
        """Index of a node by its name; an index is passed through.

        Raises
        ------
        InvalidArgument
            If there is no such node.
        """
        if isinstance(node, int) and 0 <= node < len(self):
            return node
        found = self._positions.get(str(node))
        if found is None or isinstance(node, int):
            raise InvalidArgument(f"{self.name!r} has no node {node!r}; it has {len(self)} nodes.")
        return found

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: v for v, name in enumerate(self.names)}

    @cached_property
    def succs(self) -> tuple[tuple[int, ...], ...]:
        """The nodes that read each node, ascending."""
        rows: list[list[int]] = [[] for _ in self.names]
        for v, reads in enumerate(self.preds):
            for u in reads:
                rows[u].append(v)
        return tuple(map(tuple, rows))

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """The nodes that read nothing."""
        return tuple(v for v, reads in enumerate(self.preds) if not reads)

    def ancestors(self, nodes: Iterable[int]) -> frozenset[int]:
        """The nodes and everything they depend on."""
        found, stack = set(nodes), list(nodes)
        while stack:
            for u in self.preds[stack.pop()]:
                if u not in found:
                    found.add(u)
                    stack.append(u)
        return frozenset(found)

    def restricted(self, nodes: Iterable[int]) -> tuple[Board, tuple[int, ...]]:
        """The board of some of its nodes, and the index that each of them has here."""
        kept = tuple(sorted(set(nodes)))
        position = {v: i for i, v in enumerate(kept)}
        pick = _picker(kept)
        return Board(
            names=pick(self.names),
            preds=tuple(
                tuple(position[u] for u in self.preds[v] if u in position) for v in kept
            ),
            targets=tuple(position[v] for v in self.targets if v in position),
            sizes=pick(self.sizes),
            costs=pick(self.costs),
            workspaces=pick(self.workspaces),
            name=self.name,
        ), kept  # fmt: skip

    def unweighted(self) -> Board:
        """The same nodes, all of size 1, cost 1 and no workspace."""
        return replace(self, sizes=(), costs=(), workspaces=())


def _picker(kept: tuple[int, ...]) -> Any:
    def pick(row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[v] for v in kept)

    return pick


def _from_graph(graph: Any) -> Board:
    graph = graph if isinstance(graph, Graph) else Graph.from_networkx(graph)
    for op in graph.ops:
        if len(op.outputs) != 1:
            raise GraphError(
                f"Op {op.name!r} makes {len(op.outputs)} values; on a board each op makes one. "
                "pebble.games.training_board gives every value its own node."
            )
    arrays = graph.arrays
    preds = tuple(
        tuple(sorted({int(arrays.producer[v]) for v in arrays.in_val[start:end]}))
        for start, end in zip(arrays.in_ptr, arrays.in_ptr[1:])
    )
    read = {u for row in preds for u in row}
    pinned = tuple(i for i, op in enumerate(graph.ops) if graph.values[op.outputs[0]].pinned)
    return Board(
        names=tuple(op.name for op in graph.ops),
        preds=preds,
        targets=pinned or tuple(v for v in range(len(preds)) if v not in read),
        sizes=tuple(graph.values[op.outputs[0]].size for op in graph.ops),
        costs=tuple(op.cost for op in graph.ops),
        workspaces=tuple(op.workspace for op in graph.ops),
        name=graph.name,
    )
