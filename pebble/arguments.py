"""Checks of arguments, each with one sentence for everybody who passes the wrong thing."""

from __future__ import annotations

import difflib
import functools
import math
import numbers
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pebble.errors import InvalidArgument

_Function = TypeVar("_Function", bound=Callable[..., Any])


def positive_integer(name: str, value: Any) -> int:
    """The value, if it is an integer from 1 on.

    Raises
    ------
    InvalidArgument
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise InvalidArgument(f"{name} is {value!r}; it must be a positive integer.")
    return int(value)


def positive_number(name: str, value: Any) -> float:
    """The value, if it is a finite number above 0.

    Raises
    ------
    InvalidArgument
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InvalidArgument(f"{name} is {value!r}; it must be a positive finite number.")
    return value if isinstance(value, int) else float(value)


def check_time_limit(seconds: Any) -> float:
    """Seconds of a call, if they are a finite number above 0.

    Raises
    ------
    InvalidArgument
    """
    try:
        return positive_number("time_limit", seconds)
    except InvalidArgument:
        raise InvalidArgument(
            f"The time limit is {seconds!r}; it must be a positive number of seconds."
        ) from None


def one_of(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """The value, if it is one of the choices.

    Raises
    ------
    InvalidArgument
        Lists the choices.

    Examples
    --------
    >>> one_of("method", "lora", ("full", "lora"))
    'lora'
    """
    known = list(choices)
    if value not in known:
        listed = ", ".join(repr(str(c) if isinstance(c, str) else c) for c in known)
        raise InvalidArgument(f"{name} is {value!r}; choose one of {listed}.")
    return value


def check_keywords(call: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a keyword that is nearly one of a call.

    Raises
    ------
    InvalidArgument
        Says which one may be meant.

    Examples
    --------
    >>> check_keywords("optimize", ["optimiser"], ["optimizer", "loss"])
    Traceback (most recent call last):
    pebble.errors.InvalidArgument: optimize has no option 'optimiser'; did you mean 'optimizer'?
    """
    names = list(known)
    for name in given:
        near = difflib.get_close_matches(name, names, 1, cutoff=0.8)
        if near:
            raise InvalidArgument(f"{call} has no option {name!r}; did you mean {near[0]!r}?")


def renamed(**names: str) -> Callable[[_Function], _Function]:
    """Let a function take keywords under their former names, with a warning; a decorator.

    Examples
    --------
    >>> @renamed(colour="color")
    ... def paint(*, color):
    ...     return color
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     paint(colour="red"), str(caught[0].message)
    ('red', "paint: 'colour' is now called 'color'.")
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in [name for name in kwargs if name in names]:
                new = names[old]
                text = f"{function.__name__}: {old!r} is now called {new!r}."
                if new in kwargs:
                    raise InvalidArgument(f"{text} Both were passed; leave out {old!r}.")
                warnings.warn(text, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
