"""What all pictures share: their axes, their colours, and the data that they draw."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pebble.errors import InvalidArgument, PebbleError

LINES = (
    ("#1f77b4", "-", "o"),
    ("#ff7f0e", "--", "s"),
    ("#2ca02c", "-.", "^"),
    ("#9467bd", ":", "D"),
    ("#8c564b", "-", "v"),
    ("#e377c2", "--", "P"),
    ("#17becf", "-.", "X"),
    ("#bcbd22", ":", "*"),
)
KIND_COLOURS = {
    "resident": "#d5d4cc",
    "activations": "#2a78d6",
    "gradients": "#eb6834",
    "outputs": "#1baf7a",
    "workspace": "#4a3aa7",
}
"""Of what is in memory, the same in every picture."""
FORWARD, BACKWARD, AGAIN = "#86b6ef", "#256abf", "#eda100"

Data = dict[str, Any]


class Picture:
    """A function that draws with matplotlib, beside the one that makes what it draws.

    ``picture(subject, ax=None, ...)`` draws and returns the Axes; ``picture.data(subject, ...)``
    gives the same as plain data, for other tools, and needs no matplotlib.

    Parameters
    ----------
    draw : callable
        Of the subject and keywords, `ax` among them.
    data : callable
        Of the subject and the other keywords.
    subject : str
        Who returns what it is a picture of, and the class of that, such as "pebble.sweep Sweep".
    """

    def __init__(
        self, draw: Callable[..., Any], data: Callable[..., Data], subject: str = ""
    ) -> None:
        functools.update_wrapper(self, draw)
        self._draw, self._data, self._subject = draw, data, subject

    def data(self, subject: Any, *args: Any, **kwargs: Any) -> Data:
        """What the picture draws, as plain data."""
        self._check(subject)
        return self._data(subject, *args, **kwargs)

    def _check(self, subject: Any) -> None:
        source, _, kind = self._subject.rpartition(" ")
        if kind and not any(each.__name__ == kind for each in type(subject).__mro__):
            raise InvalidArgument(
                f"{getattr(self, '__name__', 'This picture')} draws a {kind}, not a "
                f"{type(subject).__name__}; pass what {source} returned."
            )

    def __call__(self, subject: Any, *args: Any, **kwargs: Any) -> Any:
        """Draw, and return the Axes."""
        self._check(subject)
        return self._draw(subject, *args, **kwargs)


def picture(
    data: Callable[..., Data], subject: str = ""
) -> Callable[[Callable[..., Any]], Picture]:
    """Give a function that draws the one that makes its data; a decorator.

    Parameters
    ----------
    data : callable
    subject : str, optional
        Who returns what it draws, and the class of that, such as "pebble.sweep Sweep".

    Examples
    --------
    >>> @picture(lambda numbers: {"total": sum(numbers)})
    ... def plot(numbers, *, ax=None):
    ...     return ax
    >>> plot([1, 2], ax="axes"), plot.data([1, 2])
    ('axes', {'total': 3})
    """
    return lambda draw: Picture(draw, data, subject)


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


def legend_below(ax: Any, columns: int, handles: list[Any] | None = None) -> None:
    """The legend under the label of the x axis, where it hides nothing that is drawn."""
    from matplotlib.transforms import ScaledTranslation

    below = ax.transAxes + ScaledTranslation(0, -0.45, ax.figure.dpi_scale_trans)  # inches
    given = {} if handles is None else {"handles": handles}
    ax.legend(
        ncols=columns, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 0),
        bbox_transform=below, frameon=False, **given,
    )  # fmt: skip


def count_axis(axis: Any) -> None:
    """Ticks at whole numbers only: ops, stages and lengths have nothing in between."""
    axis.get_major_locator().set_params(integer=True)


def memory_unit(size_bytes: float) -> tuple[str, float]:
    """GB, MB or kB, whichever reads better for this many bytes.

    Examples
    --------
    >>> memory_unit(37e6)
    ('MB', 1000000.0)
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return unit, scale
    return "kB", 1e3
