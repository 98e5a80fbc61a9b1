"""Graphs from files: the plain text of published benchmarks, and the JSON of `Graph.to_json`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NoReturn

from pebble.errors import GraphError
from pebble.graph import Graph, Op, Value
from pebble.ordering import Cycle, topological_order
from pebble.schema import shortened
from pebble.textfile import parse_json, read_text
from pebble.wiring import LARGEST_TOTAL


def load_graph(path: str | PathLike[str]) -> Graph:
    r"""Read a graph from a file.

    Two formats are told apart by their first character. JSON is what `Graph.to_json` gives. Text
    has a line ``n m``, then n lines ``size cost`` (op i makes value i, in the reference order),
    then m lines ``u v`` (op v reads value u); blank lines are skipped.

    Parameters
    ----------
    path : str or path-like
        A UTF-8 file; the graph takes its name from it unless the JSON has one.

    Raises
    ------
    GraphError
        If the file cannot be read, is damaged (names the line) or holds no valid graph.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "pair.txt"
    >>> _ = file.write_text("2 1\n8 5\n4 6\n0 1\n")
    >>> load_graph(file)
    Graph('pair', ops=2, values=2)
    """
    text = read_text(path, what="The graph file", error=GraphError)
    file = Path(path)
    if text.lstrip().startswith("{"):
        return _from_json_text(text, file)
    return _TextReader(text, file).graph()


def _from_json_text(text: str, file: Path) -> Graph:
    try:
        data = parse_json(text)
    except ValueError as error:
        raise GraphError(f"The graph file {str(file)!r} is damaged JSON: {error}.") from None
    try:
        return Graph.from_json(data)
    except GraphError as error:
        raise GraphError(f"In {str(file)!r}: {error}") from None


class _TextReader:
    """Reads the text format, and knows the line that an error is about."""

    def __init__(self, text: str, file: Path) -> None:
        self.file = file
        lines = enumerate(text.splitlines(), start=1)
        self.rows = [(number, line.split()) for number, line in lines if line.strip()]

    def graph(self) -> Graph:
        if not self.rows:
            self._damaged(1, "the file is empty; its first line is 'ops edges'")
        n, m = self._pair(0, "ops edges")
        if len(self.rows) != 1 + n + m:
            self._damaged(
                self.rows[-1][0],
                f"the first line promises {n} ops and {m} edges, which is {1 + n + m} lines, "
                f"but there are {len(self.rows)}",
            )
        measures = [self._pair(1 + i, "size cost") for i in range(n)]
        reads: list[list[int]] = [[] for _ in range(n)]
        edge_lines: dict[tuple[int, int], int] = {}
        for k in range(1 + n, 1 + n + m):
            u, v = self._pair(k, "u v")
            for end in (u, v):
                if end >= n:
                    self._damaged(self.rows[k][0], f"node {shortened(end)} is none of 0 to {n - 1}")
            edge_lines.setdefault((u, v), self.rows[k][0])
            reads[v].append(u)
        self._check_order(n, edge_lines)
        return Graph(
            [
                Op(str(i), cost, tuple(sorted(set(reads[i]))), (i,))
                for i, (_, cost) in enumerate(measures)
            ],
            [Value(str(i), size) for i, (size, _) in enumerate(measures)],
            name=self.file.stem,
        )

    def _pair(self, row: int, what: str) -> tuple[int, int]:
        line, fields = self.rows[row]
        if len(fields) != 2:
            self._damaged(line, f"expected two integers '{what}', found {len(fields)} fields")
        numbers = []
        for field in fields:
            try:
                numbers.append(int(field))
            except ValueError:
                self._damaged(line, f"{shortened(field)} is no integer; expected '{what}'")
            if numbers[-1] < 0:
                self._damaged(line, f"{shortened(numbers[-1])} is negative; expected '{what}'")
            if numbers[-1] > LARGEST_TOTAL:
                self._damaged(line, f"{shortened(numbers[-1])} is above 2**62; expected '{what}'")
        return numbers[0], numbers[1]

    def _check_order(self, n: int, edge_lines: dict[tuple[int, int], int]) -> None:
        """The nodes are listed in the reference order: every edge leads forward."""
        against = [(line, u, v) for (u, v), line in edge_lines.items() if u >= v]
        if not against:
            return
        line, u, v = against[0]
        reads: list[list[int]] = [[] for _ in range(n)]
        for start, end in edge_lines:
            reads[end].append(start)
        try:
            topological_order(reads)
        except Cycle as cycle:
            self._damaged(line, f"edge {u} {v} leads back and the graph has a cycle: {cycle}")
        self._damaged(
            line, f"edge {u} {v} leads back; list the nodes in the order they are computed"
        )

    def _damaged(self, line: int, what: str) -> NoReturn:
        raise GraphError(f"The graph file {str(self.file)!r} is damaged in line {line}: {what}.")
