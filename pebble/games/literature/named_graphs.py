"""Graphs by name: a family with its numbers, or a file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from pebble.errors import GraphError, InvalidArgument
from pebble.games.literature.edges import graph_of_numbered
from pebble.games.literature.families import FAMILIES
from pebble.games.literature.netlist import parse_bench
from pebble.graph import Graph
from pebble.schema import shortened
from pebble.textfile import parse_json, read_text


def make_graph(text: str) -> Graph:
    """The graph of a family, as in ``pyramid:8`` or ``matmul:3x3x3``, or of a file.

    Files: a netlist (``.bench``), or JSON of a Graph or of ``{n, edges, targets}``.

    Raises
    ------
    InvalidArgument
        If the family or the file is unknown, or the numbers do not fit; lists the families.
    GraphError
        If a file holds no graph, or one with a loop.

    Examples
    --------
    >>> make_graph("pyramid:8")
    Graph('pyramid:8', ops=45, values=45)
    """
    file = Path(text)
    if "\0" in text:
        raise InvalidArgument(f"{text!r} holds a null byte; no file is called that.")
    if text.partition(":")[0] in FAMILIES and not file.is_file():
        return _of_family(text)
    if file.is_dir():
        raise InvalidArgument(f"{text!r} is a folder; name a file in it.")
    if file.is_file():
        return read_graph(file)
    if file.suffix in (".bench", ".json"):
        raise InvalidArgument(f"There is no file {text!r}.")
    raise InvalidArgument(
        f"{shortened(text)} is neither a file nor a family with numbers; families are "
        f"{', '.join(FAMILIES)} (as in pyramid:4)."
    )


def _of_family(text: str) -> Graph:
    family, _, numbers = text.partition(":")
    make = FAMILIES[family]
    parameters = [
        (name, p.default is p.empty)
        for name, p in inspect.signature(make).parameters.items()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    try:
        given = [int(part) for part in numbers.split("x")]
    except ValueError:
        given = []
    if not sum(needed for _, needed in parameters) <= len(given) <= len(parameters):
        form = "x".join(name.upper() for name, _ in parameters)
        optional = [name.upper() for name, needed in parameters if not needed]
        end = f" ({' and '.join(optional)} may be left out)" if optional else ""
        raise InvalidArgument(
            f"{shortened(text)} does not fit the family {family!r}: write {family}:{form} with "
            f"whole numbers{end}."
        )
    return make(*given)


def read_graph(file: Path) -> Graph:
    """The graph of a file; see `make_graph`."""
    text = read_text(file, what="The graph file", error=GraphError)
    if file.suffix == ".bench":
        return parse_bench(text, name=file.stem)
    try:
        data: Any = parse_json(text)
    except ValueError as error:
        raise InvalidArgument(f"{file} is no JSON: {error}.") from None
    if isinstance(data, dict) and "edges" in data and "n" in data:
        return graph_of_numbered(data, file)
    return Graph.from_json(data)
