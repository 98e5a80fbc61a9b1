"""What all pictures share: their axes, and how lines are told apart by colour and by shape."""

from __future__ import annotations

from typing import Any

from pebble.errors import PebbleError

LINES = (
    ("#1f77b4", "-", "o"),
    ("#ff7f0e", "--", "s"),
    ("#2ca02c", "-.", "^"),
    ("#9467bd", ":", "D"),
    ("#8c564b", "-", "v"),
)


def axes_for(ax: Any, figsize: tuple[float, float]) -> Any:
    """The axes given, or new ones of this size in inches."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise PebbleError(
            "Plots need matplotlib; install it, or the extra 'viz' of this package."
        ) from None
    return plt.subplots(figsize=figsize, layout="constrained")[1]
