"""The command line."""

from pebble.cli.commands import main, parse_budget

__all__ = ["main", "parse_budget"]
