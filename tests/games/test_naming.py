"""Games by name."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument
from pebble.games import GAMES, Game, make_game


@pytest.mark.parametrize("name", GAMES)
def test_games_have_names(name: str) -> None:
    game = make_game(name)
    assert isinstance(game, Game)
    assert make_game(str(game)) == game
    assert hash(game) == hash(make_game(name))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("chess", "no game 'chess'; choose one of black, "),
        ("black/ghosts", "no option 'ghosts'; options are slide"),
        ("reversible/slide", "has no option 'slide'"),
        ("spooky/visit", "exactly the targets"),
    ],
)
def test_wrong_names_list_the_choices(name: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        make_game(name)
