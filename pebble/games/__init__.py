"""Pebble games: rules, strategies, exact search, graph families, known values.

A *game* is a rule object, a *strategy* a tuple of moves, and `play` the judge of all of them.

>>> from pebble.games import Black, least_pebbles, make_graph
>>> print(least_pebbles(make_graph("pyramid:3"), Black()).pebbles)
5
"""

from pebble.games.answers import Found
from pebble.games.board import Board
from pebble.games.bounds.certificates import PathCertificate, certify, check_certificate
from pebble.games.constructions.lines import bennett_strategy, knill_strategy
from pebble.games.frames import frames
from pebble.games.literature.edges import graph_of_edges
from pebble.games.literature.families import FAMILIES
from pebble.games.literature.named_graphs import make_graph
from pebble.games.literature.netlist import parse_bench, read_bench
from pebble.games.moves import Act, Move, Step, Strategy, place, remove
from pebble.games.naming import GAMES, make_game
from pebble.games.playing import Play, play
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
from pebble.games.solving import ENGINES, GameResult, least_cost, least_pebbles, pareto_front
from pebble.games.training.board import training_board
from pebble.games.training.checkpointing import StorageLevel, adjoint_time, read_once_time
from pebble.games.training.offload import OffloadTrace, offload_of_strategy, simulate_offload
from pebble.games.training.rules import Training, training_game
from pebble.games.training.schedules import schedule_of_strategy, strategy_of_schedule

__all__ = [
    "ENGINES",
    "FAMILIES",
    "GAMES",
    "Act",
    "Black",
    "BlackWhite",
    "Board",
    "Found",
    "Game",
    "GameResult",
    "InPlace",
    "Move",
    "OffloadTrace",
    "ParallelBlack",
    "ParallelReversible",
    "PathCertificate",
    "Play",
    "RedBlue",
    "Reversible",
    "SequentialGame",
    "Spooky",
    "Step",
    "StorageLevel",
    "Strategy",
    "Training",
    "adjoint_time",
    "bennett_strategy",
    "certify",
    "check_certificate",
    "frames",
    "graph_of_edges",
    "knill_strategy",
    "least_cost",
    "least_pebbles",
    "make_game",
    "make_graph",
    "offload_of_strategy",
    "pareto_front",
    "parse_bench",
    "place",
    "play",
    "read_bench",
    "read_once_time",
    "remove",
    "schedule_of_strategy",
    "simulate_offload",
    "strategy_of_schedule",
    "training_board",
    "training_game",
]
