"""The numbers that a family of graphs takes."""

from __future__ import annotations

from pebble.errors import InvalidArgument
from pebble.schema import shortened

MOST = {"nodes": 1_000_000, "edges": 4_000_000, "pairs of nodes": 10**9}
"""About a gigabyte as a Graph, a minute for pairs, and far above what any game is played on."""


def require_least(**numbers: int) -> None:
    """Raise if a number of a family is too small: below 0 for heights and logarithms, else 1."""
    for name, number in numbers.items():
        least = 0 if name in ("height", "log2n") else 1
        if number < least:
            what = "number of nodes" if name == "n" else name
            raise InvalidArgument(
                f"The {what} is {shortened(number)}; it must be at least {least}."
            )


def require_room(family: str, nodes: int, edges: int = 0, pairs: int = 0) -> None:
    """Raise if a graph would be too large to be made; asked before anything of it is made.

    Parameters
    ----------
    family : str
        What it is called in the sentence.
    nodes, edges : int
        At least as many as it has where that is above what is made here.
    pairs : int
        Of nodes that are looked at.

    Raises
    ------
    InvalidArgument
    """
    for (what, most), number in zip(MOST.items(), (nodes, edges, pairs)):
        if number > most:
            raise InvalidArgument(
                f"This {family} has more than {most:,} {what}, the most that a graph is made "
                "with; take smaller numbers."
            )


def bounded_power(base: int, exponent: int) -> int:
    """The power, or a number of nodes that there is no room for where it is larger.

    Examples
    --------
    >>> bounded_power(2, 10), bounded_power(2, 10**12)
    (1024, 1000001)
    """
    most = MOST["nodes"]
    if exponent and (base > most or (base > 1 and exponent > most.bit_length())):
        return most + 1
    return int(base**exponent)
