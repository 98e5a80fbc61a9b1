"""How figures are printed: sizes in GB, tables, numbers with their nouns."""

from __future__ import annotations

from collections.abc import Sequence


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
