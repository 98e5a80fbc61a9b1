"""The command line."""

from pebble.cli.commands import main
from pebble.cli.files import parse_budget

__all__ = ["main", "parse_budget"]
