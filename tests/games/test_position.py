"""Games of one's own."""

from __future__ import annotations

import pytest

from pebble.games import Black, Game, SequentialGame


@pytest.mark.parametrize("missing", ["moves", "unmet"])
def test_python_tells_what_a_game_of_ones_own_lacks(missing: str) -> None:
    own = {name: getattr(Black, name) for name in ("moves", "unmet") if name != missing}
    with pytest.raises(TypeError, match=f"abstract method '?{missing}"):
        type("Own", (SequentialGame,), own)()
    with pytest.raises(TypeError, match=r"abstract methods? '?parallel"):
        type("Own", (Game,), own)()
