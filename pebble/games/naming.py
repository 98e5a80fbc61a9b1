"""Games by name: ``black/slide/oneshot/visit`` and the like."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.position import Game, SequentialGame
from pebble.games.rules import (
    Black,
    BlackWhite,
    InPlace,
    ParallelBlack,
    ParallelReversible,
    RedBlue,
    Reversible,
    Spooky,
)

_WORDS: dict[str, dict[str, Any]] = {
    "slide": {"slide": True}, "noslide": {"slide": False},
    "recompute": {"recompute": True}, "oneshot": {"recompute": False},
    "visit": {"hold": False}, "final": {"hold": True}, "persistent": {"hold": True},
    "weighted": {"weighted": True}, "free-inputs": {"free_inputs": True},
}  # fmt: skip
GAMES: dict[str, type[Game]] = {
    game.title: game
    for game in (
        Black, BlackWhite, Reversible, InPlace, Spooky, RedBlue, ParallelBlack, ParallelReversible
    )
}  # fmt: skip


def make_game(name: str) -> Game:
    """The game of a convention's name: a title and words, separated by slashes.

    Words are slide, noslide, recompute, oneshot, visit, final, persistent, weighted,
    free-inputs, for spooky the number of ghosts, and for reversible-inplace the gates that may be
    computed in place, by name or index, as in nodes=3,5.

    Raises
    ------
    InvalidArgument
        If the game or a word is unknown; lists the choices.

    Examples
    --------
    >>> make_game("black/slide/oneshot/visit").slide
    True
    >>> str(make_game("reversible"))
    'reversible/persistent'
    """
    title, *words = name.split("/")
    if title.endswith("-weighted"):
        title, words = title.removesuffix("-weighted"), [*words, "weighted"]
    game = GAMES.get(title)
    if game is None:
        raise InvalidArgument(f"There is no game {title!r}; choose one of {', '.join(GAMES)}.")
    options: dict[str, Any] = {}
    known = {field.name for field in fields(game)}
    sequential = issubclass(game, SequentialGame)
    for word in words:
        option = _option(word)
        if not known.issuperset(option) and (sequential or word != "persistent"):
            words = [w for w, o in _WORDS.items() if known.issuperset(o)]
            words += ["a number of ghosts"] if "ghosts" in known else []
            words += ["nodes=..."] if "nodes" in known else []
            raise InvalidArgument(
                f"The game {title!r} has no option {word!r}; options are {', '.join(words)}."
            )
        options.update({k: v for k, v in option.items() if k in known})
    return game(**options)


def _option(word: str) -> dict[str, Any]:
    """The fields of a game that a word sets; for an unknown word a field that no game has."""
    if word.isdecimal():
        return {"ghosts": int(word)}
    if word.startswith("nodes="):
        listed = filter(None, word.removeprefix("nodes=").split(","))
        return {"nodes": tuple(int(node) if node.isdecimal() else node for node in listed)}
    return _WORDS.get(word, {word: True})
