"""Arguments that several commands have, their defaults, and the exit statuses."""

from __future__ import annotations

import argparse

from pebble.options import TIME_LIMIT, ChunkedLoss

SOLVED, NOT_SOLVED, USAGE = 0, 1, 2


def add_solving(parser: argparse.ArgumentParser, time_limit: float = TIME_LIMIT) -> None:
    """Add what every search takes."""
    parser.add_argument("--solver", default="auto", help="name of a solver (default: auto)")
    add_effort(parser, time_limit)
    parser.add_argument(
        "--display", action=argparse.BooleanOptionalAction, default=None,
        help="show progress (default: on a terminal)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_effort(parser: argparse.ArgumentParser, time_limit: float) -> None:
    """Add how long a search may take, and what it draws from."""
    parser.add_argument(
        "--time-limit", type=float, default=time_limit, metavar="SECONDS",
        help="of search (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: %(default)s)")


def optimizer_of(name: str) -> str | None:
    """An optimizer by its name on the command line."""
    return None if name == "none" else name


def count(text: str) -> int:
    """A number of samples, tokens, devices: from 1 to a million; for argparse.

    Examples
    --------
    >>> count("32")
    32
    """
    number = int(text) if len(text) <= 20 else 0
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"it is {text[:20]}; it must be from 1 to 1,000,000")
    return number


def chunks_of(text: str) -> ChunkedLoss:
    """Into how many chunks a loss is split: ``auto``, or a number, 0 for none; for argparse.

    Examples
    --------
    >>> chunks_of("8"), chunks_of("0"), chunks_of("auto")
    (8, False, 'auto')
    """
    if text == "auto":
        return "auto"
    return count(text) if text != "0" else False
