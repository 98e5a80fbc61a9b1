"""The numbers that a family of graphs takes."""

from __future__ import annotations

from pebble.errors import InvalidArgument


def require_least(**numbers: int) -> None:
    """Raise if a number of a family is too small: below 0 for heights and logarithms, else 1."""
    for name, number in numbers.items():
        least = 0 if name in ("height", "log2n") else 1
        if number < least:
            what = "number of nodes" if name == "n" else name
            raise InvalidArgument(f"The {what} is {number}; it must be at least {least}.")
