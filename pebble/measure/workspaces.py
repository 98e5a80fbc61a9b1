"""Op-internal temporaries: each distinct op runs once under the allocator's trace."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pebble.measure.allocator import memory_events, memory_profile, trace_memory
from pebble.measure.sampling import Call, Sampler, distinct_calls, quiet_state
from pebble.tracing import Captured
from pebble.tracing.signature import HELD, OutputKind

logger = logging.getLogger("pebble")

DEFAULT_LIMIT_BYTES = 8 * 2**30
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_MARK = "pebble::op"
_cache: dict[tuple[Any, ...], int] = {}


@dataclass(frozen=True)
class Workspaces:
    """Bytes that exist only while an op runs, one number an op.

    Attributes
    ----------
    bytes : tuple of int
        One an op of the graph; 0 where nothing was measured.
    measured : bool
        Whether every op was measured. False on fake tensors, and if an op was too large.
    device : str
    threads : int
        A workspace holds for this device and number of threads only.
    skipped : tuple of str
        Ops of a real capture that were not measured.
    """

    bytes: tuple[int, ...]
    measured: bool
    device: str
    threads: int
    skipped: tuple[str, ...] = ()


def measure_workspaces(captured: Captured, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Workspaces:
    """Measure the workspace of every op of a captured step.

    Workspace = the most that was held while the op ran, less the values that the graph says it
    makes. An op runs alone on arguments of the captured shapes and strides, so nothing of the
    model is read or changed; the random state is kept. Results are remembered in the process for
    this device and number of threads.

    Parameters
    ----------
    captured : Captured
    limit_bytes : int
        An op whose arguments and results exceed this is not run.

    Returns
    -------
    Workspaces
        With ``measured=False`` and zeros for a capture on fake tensors.
    """
    threads = torch.get_num_threads()
    ops = captured.graph.ops
    if captured.fake:
        return Workspaces((0,) * len(ops), False, captured.device, threads)
    calls, of_op = distinct_calls(captured)
    small = [call.bytes <= limit_bytes for call in calls]
    peaks = _peaks_of([c for c, fits in zip(calls, small) if fits], captured.device)
    found: list[int] = []
    skipped: list[str] = []
    for i, op in enumerate(ops):
        which = of_op[i]
        if which is None:
            workspace = _loss_workspace(captured, limit_bytes)
        else:
            peak = peaks.get(calls[which].key)
            made = sum(captured.graph.values[v].size for v in op.outputs)
            workspace = None if peak is None else max(peak - made, 0)
        if workspace is None:
            skipped.append(op.name)
        found.append(workspace or 0)
    if skipped:
        logger.warning(
            "The workspace of %d ops (%s ...) was not measured.", len(skipped), skipped[0]
        )
    return Workspaces(tuple(found), not skipped, captured.device, threads, tuple(skipped))


def _peaks_of(calls: Sequence[Call], device: str) -> dict[tuple[Any, ...], int]:
    """Most bytes held while each call runs; calls that fail are left out."""
    place = (device, torch.get_num_threads())
    fresh = [call for call in calls if (place, call.key) not in _cache]
    if fresh:
        run = _peaks_cuda if torch.device(device).type == "cuda" else _peaks_cpu
        with quiet_state(device), _no_collection():
            for call, peak in zip(fresh, run(fresh, device)):
                if peak is not None:
                    _cache[place, call.key] = peak
    known = ((call.key, _cache.get((place, call.key))) for call in calls)
    return {key: peak for key, peak in known if peak is not None}


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection meanwhile: it would free others' tensors inside a measurement."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _execute(call: Call, arguments: Arguments) -> Any:
    """The call's result (an empty tuple of an op that only checks), or None if it fails alone."""
    args, kwargs = arguments
    try:
        made = call.node.target(*args, **kwargs)  # type: ignore[operator]
        return () if made is None else made
    except Exception as error:  # whatever an op may raise on arguments it does not like
        logger.info("%s cannot be measured alone: %s", call.node.name, error)
        return None


# -- CPU -----------------------------------------------------------------------------------------


def _peaks_cpu(calls: Sequence[Call], device: str) -> list[int | None]:
    sampler = Sampler(device)
    ran: list[bool] = []
    with memory_profile() as profile:
        for call in calls:
            arguments = sampler.arguments(call)
            with torch.profiler.record_function(_MARK):
                kept = _execute(call, arguments)
            ran.append(kept is not None)
            del kept
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr, unused-ignore]
    marks = sorted((e.start_ns(), e.end_ns()) for e in events if e.name() == _MARK)
    times, sizes = memory_events(profile)
    peaks: list[int | None] = []
    for done, (start, end) in zip(ran, marks, strict=True):
        first, last = np.searchsorted(times, start), np.searchsorted(times, end, side="right")
        peaks.append(_peak(sizes[first:last]) if done else None)
    return peaks


def _peak(sizes: NDArray[np.int64]) -> int:
    return max(int(np.cumsum(sizes).max(initial=0)), 0)


# -- CUDA ----------------------------------------------------------------------------------------


def _peaks_cuda(calls: Sequence[Call], device: str) -> list[int | None]:
    sampler = Sampler(device)
    peaks: list[int | None] = []
    for call in calls:
        arguments = sampler.arguments(call)
        if _execute(call, arguments) is None:  # the first run may build caches that stay
            peaks.append(None)
            continue
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
        kept = _execute(call, arguments)
        peaks.append(torch.cuda.memory_stats(device)["requested_bytes.all.peak"] - before)
        del kept
    return peaks


# -- the boundary: the user's loss ---------------------------------------------------------------


def _loss_workspace(captured: Captured, limit_bytes: int) -> int | None:
    """Bytes of the user's loss, forward and backward, beyond the outputs and their gradients.

    0 where the loss is inside the graph, None where it cannot be run.
    """
    held = [output for output in captured.outputs if output.kind in HELD]
    roots = [i for i, output in enumerate(held) if output.kind is OutputKind.DIFFERENTIABLE]
    likes = [output.node.meta["val"] for output in held]
    if captured.loss is None and all(likes[i].dim() == 0 for i in roots):
        return 0
    if 4 * sum(like.numel() * like.itemsize for like in likes) > limit_bytes:
        return None
    sampler = Sampler(captured.device)
    tensors = [sampler.tensor(like) for like in likes]
    anchor = torch.zeros((), requires_grad=True)

    def run() -> Any:
        handed = list(tensors)
        given = (tensors[i] for i in roots)
        taken = _Handover.apply(anchor, *given)  # type: ignore[no-untyped-call, unused-ignore]
        for i, root in zip(roots, taken):
            handed[i] = root
        first = handed[roots[0]]
        if captured.loss is not None:
            loss = captured.loss(captured.rebuild(handed))
        else:
            loss = first if first.dim() == 0 else first.sum()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]

    try:
        with quiet_state(captured.device), torch.enable_grad(), _no_collection():
            peak = trace_memory(run, captured.device).peak
    except Exception as error:  # the user's own function
        logger.info("The loss cannot be measured alone: %s", error)
        return None
    assert captured.graph.boundary is not None
    made = captured.graph.ops[captured.graph.boundary].outputs
    return max(peak - sum(captured.graph.values[v].size for v in made), 0)


class _Handover(torch.autograd.Function):
    """Outputs whose gradients are taken as a planned step takes them: in the outputs' layout."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, *outputs: torch.Tensor) -> Any:
        ctx.strides = [t.stride() for t in outputs]
        return tuple(t.detach() for t in outputs)

    @staticmethod
    def backward(ctx: Any, *tangents: torch.Tensor) -> tuple[None, ...]:
        taken = [
            t
            if t.stride() == stride
            else torch.empty_strided(t.shape, stride, dtype=t.dtype, device=t.device)
            for t, stride in zip(tangents, ctx.strides)
        ]
        return (None,) * (len(taken) + 1)
