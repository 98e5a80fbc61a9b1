"""The games: one small rule object each. It says what a move may do to a position."""

from pebble.games.rules.black import Black
from pebble.games.rules.black_white import BlackWhite
from pebble.games.rules.in_place import InPlace
from pebble.games.rules.parallel import ParallelBlack, ParallelReversible
from pebble.games.rules.red_blue import RedBlue
from pebble.games.rules.reversible import Reversible, Spooky

__all__ = [
    "Black",
    "BlackWhite",
    "InPlace",
    "ParallelBlack",
    "ParallelReversible",
    "RedBlue",
    "Reversible",
    "Spooky",
]
