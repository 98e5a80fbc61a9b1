"""Warnings that people see: at the line of their own program that they can change."""

from __future__ import annotations

import inspect
import warnings

_NOT_THEIRS = ("pebble", "torch", "contextlib", "functools")


def warn(text: str, category: type[Warning]) -> None:
    """Issue a warning at the line that called into pebble, past pebble's and torch's own frames.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("too little memory", UserWarning)
    >>> str(caught[0].message)
    'too little memory'
    """
    frame, level = inspect.currentframe(), 0
    while frame is not None and _root(frame.f_globals.get("__name__")) in _NOT_THEIRS:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level + 1)


def _root(name: object) -> str:
    return str(name).partition(".")[0]
