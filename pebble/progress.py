"""What a caller sees while a call runs: one line that moves, and what came out as its last state.

The outermost call draws the line; calls inside of it (a plan within a search for a batch) tell it
what they do.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pebble.answers import Progress
from pebble.arguments import one_of

_Function = TypeVar("_Function", bound=Callable[..., Any])

logger = logging.getLogger("pebble")

_DELAY, _TICK = 1.0, 0.5
"""Seconds until a line is drawn, and between its states: a quick call draws none."""


class ProgressLine:
    """What a call tells of itself; this one shows nothing.

    Attributes
    ----------
    base_cost : int
        Of the step without a plan: costs are shown as what they are above it. 0: unknown.
    """

    def __init__(self) -> None:
        self.base_cost = 0

    def part(self, text: str) -> None:
        """The part of the call from now on, such as a batch size; says nothing of its stage."""

    def stage(self, text: str) -> None:
        """What is done from now on, such as "capture"."""

    def report(self, progress: Progress) -> None:
        """Incumbent, bound and gap of a solve."""

    def result(self, text: str) -> None:
        """What came out; stands there at the end."""

    def close(self) -> None:
        """Draw the last state."""


class DrawnLine(ProgressLine):
    """A line on the standard error or in a notebook, drawn once the call takes a second.

    Parameters
    ----------
    name : str
        Of the call.
    seconds : float or None
        Its time limit.
    always : bool
        Whether what came out is told of a quick call, too.
    """

    def __init__(self, name: str, seconds: float | None, *, always: bool) -> None:
        super().__init__()
        self._name, self._seconds, self._always = name, seconds, always
        self._part = self._stage = self._search = self._result = ""
        self._bar: Any = None
        self._began, self._logged = time.monotonic(), 0.0
        self._ended = threading.Event()
        self._ticking = threading.Thread(target=self._tick, daemon=True)
        self._ticking.start()

    def part(self, text: str) -> None:
        """The part of the call from now on."""
        self._part, self._stage, self._search = text, "", ""

    def stage(self, text: str) -> None:
        """What is done from now on."""
        self._stage, self._search = text, ""

    def report(self, progress: Progress) -> None:
        """Incumbent, bound and gap; in the log at most once a second."""
        self._search = search_text(progress, self.base_cost)
        if time.monotonic() - self._logged >= 1.0:
            self._logged = time.monotonic()
            logger.info("%s", progress)

    def result(self, text: str) -> None:
        """What came out."""
        self._result = text

    def close(self) -> None:
        """Draw the last state."""
        self._ended.set()
        self._ticking.join()
        seconds = time.monotonic() - self._began
        last = f"{self._name}: {self._result or 'ended without a result'} ({seconds:.1f} s)"
        if self._bar is not None:
            self._bar.bar_format = "{desc}"
            self._bar.set_description_str(last, refresh=False)
            self._bar.close()
        elif self._always and self._result:
            print(last, file=stream())

    def _tick(self) -> None:
        if self._ended.wait(_DELAY):
            return
        self._bar = _bar(self._name, self._seconds)
        while True:
            what = ", ".join(part for part in (self._part, self._stage, self._search) if part)
            passed = time.monotonic() - self._began
            self._bar.n = passed if self._seconds is None else min(passed, self._seconds)
            self._bar.set_description_str(f"{self._name}: {what}" if what else self._name)
            if self._ended.wait(_TICK):
                return


_OPEN: list[ProgressLine] = []
"""The line of the call that runs, drawn or not; its threads share it, as there is one terminal."""
_SILENT = ProgressLine()


@contextlib.contextmanager
def progress_line(
    display: bool | None, name: str, seconds: float | None = None
) -> Iterator[ProgressLine]:
    """The line of a call: its own, or that of the call that it is a part of.

    Parameters
    ----------
    display : bool or None
        None: where somebody watches, on a terminal or in a notebook.
    name : str
        Of the call.
    seconds : float, optional
        Its time limit.

    Examples
    --------
    >>> with progress_line(False, "nothing is shown") as line:
    ...     line.stage("capture")
    """
    if _OPEN:
        yield open_line()
        return
    shown = is_watched() if display is None else display
    line = DrawnLine(name, seconds, always=bool(display)) if shown else ProgressLine()
    _OPEN.append(line)
    try:
        yield line
    except BaseException as error:
        line.result(f"{type(error).__name__}")
        raise
    finally:
        _OPEN.remove(line)
        line.close()


def watched(told: Callable[[Any], str]) -> Callable[[_Function], _Function]:
    """Let a call with the keywords `display` and `time_limit` show its progress; a decorator.

    Parameters
    ----------
    told : callable
        From what the call returns to the line that stands there in the end.

    Examples
    --------
    >>> @watched(str)
    ... def total(numbers, *, display=None):
    ...     return sum(numbers)
    >>> total([1, 2], display=False)
    3
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            display = one_of("display", kwargs.get("display"), (None, True, False))
            seconds = kwargs.get("time_limit")
            limit = float(seconds) if isinstance(seconds, (int, float)) and seconds > 0 else None
            with progress_line(display, function.__name__, limit) as line:
                made = function(*args, **kwargs)
                line.result(told(made))
                return made

        return call  # type: ignore[return-value]

    return decorate


def open_line() -> ProgressLine:
    """The line of the call that runs; one that shows nothing where there is none."""
    return _OPEN[0] if _OPEN else _SILENT


def is_watched() -> bool:
    """Whether somebody sees the standard error: a terminal, or a notebook."""
    if "ipykernel" in sys.modules and "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        if type(shell).__name__ == "ZMQInteractiveShell":
            return True
    shown = stream()
    return shown is not None and bool(shown.isatty())


def stream() -> Any:
    """Where lines are drawn."""
    return sys.stderr


def search_text(progress: Progress, base_cost: int = 0) -> str:
    """Incumbent, bound and gap in a few words, as extra compute where the base is known.

    Examples
    --------
    >>> search_text(Progress(1.0, 120, 110, "priced"), 100)
    'found +20.00 %, bound +10.00 %, gap 9.09 % (priced)'
    """

    def shown(cost: int) -> str:
        return f"+{100 * (cost / base_cost - 1):.2f} %" if base_cost else f"{cost:,}"

    if progress.incumbent is None:
        return f"nothing found yet, bound {shown(progress.bound)} ({progress.source})"
    gap = progress.gap
    apart = "" if gap is None else f", gap {100 * gap:.2f} %"
    return (
        f"found {shown(progress.incumbent)}, bound {shown(progress.bound)}{apart} "
        f"({progress.source})"
    )


@contextlib.contextmanager
def display_log(on: bool | None) -> Iterator[None]:
    """The log of this library on the standard error; None: where somebody watches."""
    if not (is_watched() if on is None else on):
        yield
        return
    handler = logging.StreamHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _bar(name: str, seconds: float | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that widgets are missing is nobody's concern
        from tqdm.auto import tqdm
    form = "{desc} {elapsed}"
    if seconds is not None:
        form = "{desc} |{bar:12}| {elapsed}" + f", limit {seconds:.0f} s"
    bar = tqdm(total=seconds, desc=name, bar_format=form, leave=True, file=stream())
    bar.start_t -= _DELAY
    return bar
