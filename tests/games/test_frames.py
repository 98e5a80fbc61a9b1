"""Frames show every kind of pebble."""

from __future__ import annotations

from collections.abc import Iterator

from pebble.games import (
    Black,
    frames,
    least_cost,
    least_pebbles,
    make_game,
    make_graph,
    place,
    remove,
)


def test_frames_show_every_kind_of_pebble() -> None:
    def boards(name: str, line: str) -> Iterator[str]:
        result = least_cost(make_graph(line), make_game(name))
        assert result.strategy is not None
        return (text.split()[1] for text in frames(result.game, result.board, result.strategy))

    assert set("".join(boards("red-blue", "path:3"))) == {"b", ".", "r", "#"}
    steps = [place(0), place(1), remove(0), place(2)]
    last = list(frames(Black(), make_graph("path:3"), steps))[-1]
    assert last == "   4  .##    2  place 2"
    ghosts = least_pebbles(make_graph("path:6"), make_game("spooky"))
    assert any("~" in f for f in frames(ghosts.game, ghosts.board, ghosts.strategy or ()))
