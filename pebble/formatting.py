"""How figures are printed: sizes in GB, times, tables, numbers with their nouns."""

from __future__ import annotations

from collections.abc import Sequence


class Printed:
    """What shows its report also where it is looked at, as in a plain Python prompt.

    A frozen dataclass of this kind is made with ``repr=False``.
    """

    def __repr__(self) -> str:
        return str(self)


def gigabytes(size: float) -> str:
    """Bytes as GB (10**9), or MB and kB where that reads better.

    Examples
    --------
    >>> gigabytes(15e9), gigabytes(1_234_567), gigabytes(12)
    ('15.00 GB', '1.23 MB', '12 B')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size:.0f} B"


def duration(nanoseconds: float) -> str:
    """Nanoseconds as the unit that reads best.

    Examples
    --------
    >>> duration(2.5e9), duration(1_234_567), duration(800)
    ('2.50 s', '1.23 ms', '0.80 us')
    """
    for unit, factor in (("s", 1e9), ("ms", 1e6)):
        if abs(nanoseconds) >= factor:
            return f"{nanoseconds / factor:.2f} {unit}"
    return f"{nanoseconds / 1e3:.2f} us"


def rounded_up_gb(size_bytes: int) -> float:
    """Bytes in GB with four digits, never less: a budget that is safe to ask for.

    Examples
    --------
    >>> rounded_up_gb(1_234_567_890)
    1.235
    """
    unit: int = 10 ** max(len(str(size_bytes)) - 4, 0)
    return -(-size_bytes // unit) * unit / 1e9


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a header, first column left, others right.

    Examples
    --------
    >>> print(table(["", "peak"], [["no plan", "2 GB"]]))
             peak
    -------  ----
    no plan  2 GB
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, ["-" * w for w in widths], *rows]:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> count(1, "sample"), count(3, "sample")
    ('1 sample', '3 samples')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
