"""Known values: every figure names its graph, convention and source, and is proved again here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pebble.games import (
    Board,
    Spooky,
    graph_of_edges,
    least_cost,
    least_pebbles,
    make_game,
    make_graph,
    play,
)
from pebble.solver import Status

DATA = json.loads((Path(__file__).parents[1] / "data" / "pebbling_values.json").read_text())
LEAST = ("min_peak_pebbles", "min_peak_memory")


@cache
def board(name: str) -> Board:
    if ":" in name:
        return Board.of(make_graph(name))
    data = DATA["graphs"][name]
    return Board.of(
        graph_of_edges(
            data["n"], data["edges"], name=name, sizes=data.get("sizes"), costs=data.get("costs")
        )
    )


def groups() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in DATA["rows"]:
        found.setdefault(f"{row[1]} {row[2]}", []).append(row)
    return found


def check(graph: str, convention: str, measure: str, given: list[int], value: int | None) -> None:
    game = make_game(convention)
    if isinstance(game, Spooky):
        game = Spooky(ghosts=given[-1])
    if measure in LEAST:
        result = least_pebbles(board(graph), game)
        found = result.pebbles
    else:
        result = least_cost(board(graph), game, given[0] if given else None)
        found = result.cost
    assert found == value
    if value is None:
        assert result.status is Status.INFEASIBLE
        return
    assert result.status is Status.OPTIMAL
    assert result.lower_bound == value
    trace = play(game, board(graph), result.strategy, pebbles=result.pebbles)
    assert (trace.peak if measure in LEAST else trace.cost) == value


@pytest.mark.parametrize("group", groups())
def test_known_values(group: str) -> None:
    wrong = []
    for graph, convention, measure, source, rows in groups()[group]:
        for *given, value in rows:
            try:
                check(graph, convention, measure, given, value)
            except AssertionError as error:
                wrong.append(
                    f"{graph} {convention} {measure} {given} = {value} "
                    f"({DATA['sources'][source]}): {error}"
                )
    assert not wrong, "\n".join(wrong[:5])


def test_every_value_is_there() -> None:
    assert sum(len(row[-1]) for row in DATA["rows"]) == 1451
