"""Errors and warnings of the library in the words of the command line."""

from __future__ import annotations

import argparse
import contextlib
import re
import warnings
from collections.abc import Iterator

from pebble.errors import PebbleWarning

_FLAGS = (
    (r"chunked_loss='auto'", "--chunked-loss auto", "chunked_loss"),
    (r"outputs='loss'", "--outputs loss", "outputs"),
    (r"a smaller micro-batch", "a smaller --batch-size", "batch_size"),
    (r"a leaner optimizer", "a leaner --optimizer", "optimizer"),
    (r"frozen parameters \(LoRA\)", "--method lora", "method"),
    (r"budget_gb=([\d.]+)", r"--budget-gb \1", "budget_gb"),
)
"""What a library call is told, what the command line calls it, and the argument behind it."""


def in_flags(text: str, args: argparse.Namespace) -> str:
    """Advice for a call of the library as advice for a command.

    What the command has no flag for is left as it is.

    Examples
    --------
    >>> in_flags("Try outputs='loss', or budget_gb=1.5.", argparse.Namespace(budget_gb=1.0))
    "Try outputs='loss', or --budget-gb 1.5."
    """
    for said, flag, name in _FLAGS:
        if hasattr(args, name):
            text = re.sub(said, flag, text)
    return text


@contextlib.contextmanager
def short_warnings() -> Iterator[None]:
    """Print pebble's warnings in one line each, without a place in somebody's program."""
    before = warnings.formatwarning

    def told(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if issubclass(category, PebbleWarning):
            return f"{category.__name__}: {message}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = told
    try:
        yield
    finally:
        warnings.formatwarning = before
