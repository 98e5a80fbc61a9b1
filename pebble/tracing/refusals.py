"""What stops a capture, told with the place and what to do about it."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn

from pebble.errors import CaptureError, PebbleError
from pebble.tracing.torch_private.dynamo import ForwardTrace

logger = logging.getLogger("pebble")
_Traced = TypeVar("_Traced")


def attempt(what: str, model: nn.Module, trace: Callable[[], _Traced]) -> _Traced:
    """What a trace returns.

    Raises
    ------
    CaptureError
        If it fails: where, why, and what helps.
    """
    try:
        return trace()
    except PebbleError:
        raise
    except Exception as error:
        reason, where = explain(error)
        place = f" at {where}" if where else ""
        raise CaptureError(
            f"The {what} of {type(model).__name__} cannot be traced into one graph{place}: "
            f"{reason}. {_advice(model, error)}"
        ) from error


def check_sizes(traced: ForwardTrace, model: nn.Module) -> None:
    """Refuse a forward whose sizes depend on data."""
    if traced.symbol is not None:
        raise CaptureError(
            f"The forward of {type(model).__name__} makes a number or size that depends on data"
            f"{f' at {traced.symbol}' if traced.symbol else ''}. A plan holds for fixed shapes: "
            "keep the number in a tensor (no .item()), and use torch.where or a mask in place of "
            "boolean indexing and nonzero."
        )


def check_side_effects(traced: ForwardTrace, model: nn.Module) -> None:
    """Refuse a forward that replaces the model's tensors; warn of other changes of state."""
    if any("._buffers" in place or "._parameters" in place for place in traced.side_effects):
        raise CaptureError(
            f"The forward of {type(model).__name__} assigns a new tensor to a buffer or parameter, "
            "which a traced step cannot repeat. Write into the tensor instead: "
            "self.buffer.copy_(new) in place of self.buffer = new."
        )
    if traced.side_effects:
        logger.warning(
            "The forward of %s changes Python state (%s), which a planned step does not.",
            type(model).__name__,
            ", ".join(traced.side_effects),
        )


def _advice(model: nn.Module, error: Exception) -> str:
    if isinstance(error, TypeError):
        return "Check that the model runs on these inputs."
    if any(isinstance(m, nn.RNNBase) for m in model.modules()):
        return (
            "torch does not trace nn.RNN, nn.LSTM and nn.GRU; write the recurrence with "
            "nn.LSTMCell or nn.GRUCell, or plan the rest of the model."
        )
    if any(getattr(m, "gradient_checkpointing", False) is True for m in model.modules()):
        return (
            "Switch the model's own gradient checkpointing off first "
            "(model.gradient_checkpointing_disable()): pebble decides what is recomputed."
        )
    return (
        "Make this line free of data-dependent Python (torch.where for if, fixed shapes, no "
        ".item()), or plan the part of the model without it."
    )


def explain(error: BaseException) -> tuple[str, str]:
    """What stopped a capture and where: the first sentence of torch's message, and file:line."""
    where = ""
    # Dynamo keeps the user's frames apart from its own.
    stack = getattr(error, "real_stack", None)
    if stack:
        where = f"{stack[-1].filename}:{stack[-1].lineno}"
    text = str(getattr(error, "msg", "") or error)
    if not where:
        found = re.findall(r'File "([^"]+)", line (\d+)', str(error))
        where = ":".join(found[-1]) if found else _innermost(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    what = lines[0] if lines else type(error).__name__
    if len(lines) > 1 and lines[1].startswith("Explanation:"):
        what += ": " + lines[1].removeprefix("Explanation:").strip()
    return what.rstrip("."), where


def _innermost(error: BaseException) -> str:
    """The last frame outside of torch, if any."""
    here = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename and not frame.filename.startswith(here)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
