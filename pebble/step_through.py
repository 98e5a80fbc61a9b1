"""A schedule or a strategy step by step: a slider in notebooks, frames of text anywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pebble.errors import InvalidArgument
from pebble.formatting import Printed

_FRAMES = 400
"""Frames that a page without widgets holds."""


class StepThrough(Printed, Sequence[str]):
    """Frames of text, one for each step.

    In a notebook it is a slider: of ipywidgets where they are installed, else one that works in
    any page. `print` shows where it stands; iterate over it, or index it, for the frames.

    Parameters
    ----------
    frame : callable
        From the number of a step to its text.
    count : int
        Steps.
    start : int
        The step that is shown first.

    Examples
    --------
    >>> walk = StepThrough(lambda k: f"step {k}", 3, start=1)
    >>> walk, list(walk)
    (step 1, ['step 0', 'step 1', 'step 2'])
    """

    def __init__(self, frame: Callable[[int], str], count: int, start: int = 0) -> None:
        self._frame, self._count, self.start = frame, count, start

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: Any) -> Any:
        if isinstance(step, slice):
            return [self._frame(k) for k in range(self._count)[step]]
        if not -self._count <= step < self._count:
            raise IndexError(f"There are {self._count} steps; there is no step {step}.")
        return self._frame(step % self._count)

    def __iter__(self) -> Iterator[str]:
        return map(self._frame, range(self._count))

    def __str__(self) -> str:
        return self._frame(self.start)

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        try:
            import ipywidgets
        except ImportError:
            display(HTML(self._repr_html_()))  # type: ignore[no-untyped-call]
            return
        slider = ipywidgets.IntSlider(
            self.start, 0, self._count - 1, description="step",
            layout=ipywidgets.Layout(width="90%"),
        )  # fmt: skip
        shown = ipywidgets.HTML(_preformatted(str(self)))

        def show(change: Any) -> None:
            shown.value = _preformatted(self._frame(change["new"]))

        slider.observe(show, names="value")
        display(ipywidgets.VBox([slider, shown]))  # type: ignore[no-untyped-call]

    def _repr_html_(self) -> str:
        steps = self.kept_steps()
        frames = json.dumps([self._frame(k) for k in steps]).replace("<", "\\u003c")
        at = min(range(len(steps)), key=lambda i: abs(steps[i] - self.start))
        move = "this.nextElementSibling.textContent=JSON.parse(this.dataset.frames)[this.value]"
        return (
            f'<div><input type="range" min="0" max="{len(steps) - 1}" value="{at}" '
            f'style="width:90%" aria-label="step" data-frames="{html.escape(frames)}" '
            f'oninput="{move}">{_preformatted(self._frame(steps[at]))}</div>'
        )

    def kept_steps(self) -> list[int]:
        """The steps of a page without widgets: all, or evenly spread ones and the first shown."""
        if self._count <= _FRAMES:
            return list(range(self._count))
        even = {k * (self._count - 1) // (_FRAMES - 1) for k in range(_FRAMES)}
        return sorted(even | {self.start})


def step_through(frames: Sequence[str], start: int = 0) -> StepThrough:
    """Frames that are there already, step by step.

    Raises
    ------
    InvalidArgument
        If there are none.
    """
    if not frames:
        raise InvalidArgument("There is no step to go through.")
    return StepThrough(frames.__getitem__, len(frames), start)


def _preformatted(text: str) -> str:
    return f'<pre style="line-height:1.25">{html.escape(text)}</pre>'
