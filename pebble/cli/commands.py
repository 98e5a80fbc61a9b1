"""The command line: ``python -m pebble demo | fit | optimize | solve | show | versions | game``.

Exit status: 0 solved, 1 not solved, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pebble._version import __version__
from pebble.cli.arguments import NOT_SOLVED, USAGE
from pebble.cli.files import add_show, add_solve
from pebble.cli.game import add_parser as add_game
from pebble.cli.models import add_demo, add_fit, add_optimize
from pebble.cli.versions import add_versions
from pebble.cli.wording import in_flags, short_warnings
from pebble.errors import InfeasibleBudget, PebbleError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = argument_parser().parse_args(argv)
    try:
        with short_warnings():
            return int(args.run(args))
    except InfeasibleBudget as error:
        print(f"{type(error).__name__}: {in_flags(str(error), args)}", file=sys.stderr)
        return NOT_SOLVED
    except PebbleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return USAGE


def argument_parser() -> argparse.ArgumentParser:
    """What every command takes."""
    parser = argparse.ArgumentParser(
        prog="pebble", description="Fit a PyTorch training step into a memory budget."
    )
    parser.add_argument("--version", action="version", version=f"pebble {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_demo(commands)
    add_fit(commands)
    add_optimize(commands)
    add_solve(commands)
    add_show(commands)
    add_versions(commands)
    add_game(commands)
    return parser
