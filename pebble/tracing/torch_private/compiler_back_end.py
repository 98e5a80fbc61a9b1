"""The calls by which a back end of torch.compile partitions and runs a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def autograd_back_end(**options: Any) -> Callable[..., Callable[..., Any]]:
    """A back end made of a partitioner and compilers: torch's own `aot_autograd`."""
    # Every back end of torch's own is made by it; importing it costs a second.
    from torch._dynamo.backends.common import aot_autograd

    made: Callable[..., Callable[..., Any]] = aot_autograd(**options)
    return made


def mark_boxed(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, known to take its arguments in a list that it empties."""
    run._boxed_call = True  # type: ignore[attr-defined]  # how AOT autograd knows that it may let go
    return run
