"""How the report writes tables and numbers."""

from __future__ import annotations


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, first column left, others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(fraction: float | None) -> str:
    """A fraction in per cent."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def seconds(value: float | None) -> str:
    """Seconds with one decimal."""
    return "-" if value is None else f"{value:.1f}"
