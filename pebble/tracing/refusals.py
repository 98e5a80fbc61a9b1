"""What stops a capture, told with the place and what to do about it."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import fx, nn

from pebble.errors import CaptureError, PebbleError, StateNotKept
from pebble.notices import warn
from pebble.tracing.op_labels import tidy_path
from pebble.tracing.python_reads import BASE, FactKind, PythonReads
from pebble.tracing.python_writes import PythonWrites
from pebble.tracing.torch_private.dynamo import ForwardTrace

_FAILED_CALL = re.compile(
    r"fake tensors: call.* got ((?:Runtime|Value|Type|Index)Error)\((['\"])(.*?)\2\)", re.DOTALL
)
_MARKS_INPUT = re.compile(r"Tensor\.requires_grad\b|requires_grad_\(\)")
_NO_RECURRENT = (
    "torch does not trace nn.RNN, nn.LSTM and nn.GRU; write the recurrence with nn.LSTMCell or "
    "nn.GRUCell, plan the rest of the model, or plan it module by module (level='module')."
)
_NO_GRAPH = (
    "Make this line free of data-dependent Python (torch.where for if, fixed shapes, no .item()), "
    "plan the part of the model without it, or plan it module by module (level='module')."
)
_CHECKS_VALUES = (
    "Pass validate_args=False to the distributions of the forward (or set it for all: "
    "torch.distributions.Distribution.set_default_validate_args(False)), which check the values of "
    "their arguments at every call; or plan it module by module (level='module')."
)
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
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
        advice = _advice(model, error, where)
        raise CaptureError(
            f"The {what} of {type(model).__name__} cannot be traced into one graph{place}: "
            f"{reason}. {advice}",
            breaks_graph=advice in (_NO_RECURRENT, _NO_GRAPH, _CHECKS_VALUES),
        ) from error


def check_sizes(traced: ForwardTrace, model: nn.Module) -> None:
    """Refuse a forward whose sizes depend on data."""
    if traced.symbol is not None:
        raise CaptureError(
            f"The forward of {type(model).__name__} makes a number or size that depends on data"
            f"{f' at {traced.symbol}' if traced.symbol else ''}. A plan holds for fixed shapes: "
            "keep the number in a tensor (no .item()), and use torch.where or a mask in place of "
            "boolean indexing and nonzero.",
            breaks_graph=True,
        )


def check_side_effects(traced: ForwardTrace, model: nn.Module) -> None:
    """Refuse a forward that replaces the model's tensors."""
    effects = [place for place in traced.side_effects if not _writes_in_place(place, model)]
    if any("._buffers" in place or "._parameters" in place for place in effects):
        raise CaptureError(
            f"The forward of {type(model).__name__} assigns a new tensor to a buffer or parameter, "
            "which a traced step cannot repeat. Write into the tensor instead: "
            "self.buffer.copy_(new) in place of self.buffer = new."
        )


def check_numbers(reads: PythonReads, writes: PythonWrites, model: nn.Module) -> None:
    """Refuse a forward that goes on from a number of its own which is a constant of the graph."""
    places = {(p.base, p.step): i for i, p in enumerate(reads.places)}
    equal = {f.place: f.value for f in reads.facts if f.kind is FactKind.EQUAL}
    for write in writes.writes:
        place = places.get((write.place, f"{BASE}.{write.attribute}"), -1)
        was, now = equal.get(place), write.value
        if _is_number(was) and _is_number(now) and now != was:
            raise CaptureError(
                f"The forward of {type(model).__name__} computes with a number that it changes: "
                f"{write.attribute!r} is {was!r} before this step and {now!r} after it, and a "
                "graph has it as a constant. Keep it as a tensor (register_buffer) that the "
                "forward writes in place, or change it in the training loop and pass it in."
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tell_side_effects(traced: ForwardTrace, model: nn.Module) -> None:
    """Warn of Python state that the forward changes, which a planned step does not."""
    told = lost_state(traced, model)
    if told:
        warn(
            f"The forward of {type(model).__name__} changes Python state ({', '.join(told)}), "
            "which a planned step does not: return what the loop reads.",
            StateNotKept,
        )


def lost_state(traced: ForwardTrace, model: nn.Module) -> list[str]:
    """Places of Python state that the forward changes and no planned step does."""
    return [
        place.replace("L['self']", "self")
        for place in traced.lost
        if not (_is_bookkeeping(place, model) or _writes_in_place(place, model))
    ]


def _is_bookkeeping(place: str, model: nn.Module) -> bool:
    """Whether it is what Hugging Face models note for themselves at every call."""
    config = type(getattr(model, "config", None)).__module__
    mine = place.endswith(".config") and config.startswith("transformers.")
    return mine or place.endswith("._active_collector")


def _writes_in_place(place: str, model: nn.Module) -> bool:
    """Whether a tensor that is assigned is the one that was there, written to with ``out=``.

    So do torch's own parametrizations: ``self._u = normalize(..., out=self._u)``.
    """
    try:
        module = model.get_submodule(tidy_path(place).removesuffix("_buffers").rstrip("."))
    except AttributeError:
        return False
    return type(module).__module__ == "torch.nn.utils.parametrizations"


def check_layouts(joint: fx.GraphModule, model: nn.Module | None = None) -> None:
    """Refuse a step that makes sparse tensors: they have no one storage that could be counted."""
    made = (node for node in joint.graph.nodes if _is_sparse(node.meta.get("val")))
    node = next(made, None)
    if node is None:
        return
    modules = {} if model is None else dict(model.named_modules())
    names = [repr(name) for name, m in modules.items() if getattr(m, "sparse", None) is True]
    what = f"for {' and '.join(names)}" if names else f"at node {node.name!r}"
    raise CaptureError(
        f"The step makes a sparse tensor {what}, and a plan counts dense ones only. Use "
        "sparse=False for the embedding, or plan the part of the model without it."
    )


def _is_sparse(made: Any) -> bool:
    found = made if isinstance(made, (tuple, list)) else (made,)
    return any(isinstance(t, torch.Tensor) and t.layout is not torch.strided for t in found)


def _advice(model: nn.Module, error: Exception, where: str) -> str:
    if isinstance(error, TypeError) or _FAILED_CALL.search(str(error)):
        return "Check that the model runs on these inputs."
    averaging = [repr(name) for name, m in model.named_modules() if _averages_over_all(m)]
    if averaging:
        return (
            f"Give {', '.join(averaging)} a number as momentum: momentum=None weighs a batch by a "
            "count that is read from a tensor."
        )
    if any(isinstance(m, nn.RNNBase) for m in model.modules()):
        return _NO_RECURRENT
    if _MARKS_INPUT.search(str(error)):
        return "Set requires_grad of parameters and inputs before the call, not in the forward."
    if any(getattr(m, "gradient_checkpointing", False) is True for m in model.modules()):
        return (
            "Switch the model's own gradient checkpointing off first "
            "(model.gradient_checkpointing_disable()): pebble decides what is recomputed."
        )
    return _CHECKS_VALUES if "/torch/distributions/" in where else _NO_GRAPH


def _averages_over_all(module: nn.Module) -> bool:
    """Whether a norm keeps the plain average of all batches instead of a moving one."""
    tracks = getattr(module, "track_running_stats", False) and module.training
    return bool(tracks) and getattr(module, "momentum", 0) is None


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
    failed = _FAILED_CALL.search(text)
    if failed is not None:  # what the user's own call says, without the arguments of dynamo's
        return f"{failed[1]}: {failed[3]}".rstrip("."), where
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
        if "/torch/" not in frame.filename
        and not frame.filename.startswith(here)
        and ("-packages" in frame.filename or not frame.filename.startswith(_STANDARD_LIBRARY))
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
