"""What the values of a step and the temporaries of its ops weigh, as the allocator sees them.

One real run of the step shows both. Where it cannot be run (no data, no room, an op that speaks to
others), each distinct op runs alone on sampled arguments.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from pebble.graph import Graph
from pebble.measure.allocator import Scales
from pebble.measure.allocator import room_bytes as room_of
from pebble.measure.card_workspaces import temporary_bytes
from pebble.measure.loss_run import held_outputs, run_loss, ways_to_run
from pebble.measure.real_step import StepRun, may_run, run_step
from pebble.measure.sampling import (
    Call,
    CallBytes,
    Sampler,
    distinct_calls,
    quiet_state,
    results_of_op,
    run_call,
)
from pebble.measure.slot_tensors import with_views
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.tracing import Captured
from pebble.tracing.signature import stands_outside

logger = logging.getLogger("pebble")

DEFAULT_LIMIT_BYTES = 8 * 2**30
_SHARE_OF_ROOM = {"cpu": 0.5, "cuda": 0.9}
Tensors = Mapping[torch.fx.Node, torch.Tensor]
Key = tuple[Any, ...]
_sampled: dict[tuple[Key, Key], CallBytes] = {}


@dataclass(frozen=True)
class Workspaces:
    """Bytes of values, and bytes that exist only while an op runs.

    Attributes
    ----------
    bytes : tuple of int
        Temporaries, one number an op of the graph; 0 where nothing was measured.
    sizes : tuple of int
        Of the values, one a value; as traced where nothing was measured.
    measured : bool
        Whether every op was measured. False on fake tensors, and if an op was too large.
    device : str
    threads : int
        A workspace holds for this device and number of threads only.
    skipped : tuple of str
        Ops of a real capture that were not measured.
    """

    bytes: tuple[int, ...]
    sizes: tuple[int, ...]
    measured: bool
    device: str
    threads: int
    skipped: tuple[str, ...] = ()

    def on(self, graph: Graph) -> Graph:
        """The graph with these bytes."""
        return graph.with_measures(workspaces=self.bytes, sizes=self.sizes)


@dataclass(frozen=True)
class _Known:
    """What the real run of a capture showed, for others that have calls in common with it."""

    workspaces: Workspaces
    calls: Mapping[Key, CallBytes]


_known: weakref.WeakKeyDictionary[torch.fx.GraphModule, _Known] = weakref.WeakKeyDictionary()


def measure_workspaces(
    captured: Captured,
    tensors: Tensors | None = None,
    *,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    loops: frozenset[int] = frozenset(),
    room_bytes: int | None = None,
) -> Workspaces:
    """Measure the values and the workspace of every op of a captured step.

    Workspace = the most that was held while the op ran, less the values that it makes. The random
    state is kept, and nothing of the model is changed.

    Parameters
    ----------
    captured : Captured
    tensors : mapping, optional
        The tensor of every slot; see `pebble.measure.slot_tensors`. Then the step runs once on
        them, if it is in one piece and there is room. Else each op runs alone on arguments of the
        captured layout.
    limit_bytes : int
        An op whose arguments and results exceed this is not run alone.
    loops : frozenset of int
        Ops for which a compiler writes loops: they are not run, and take nothing beside what they
        make.
    room_bytes : int, optional
        For values and temporaries while they are measured. Then each op runs alone at first, which
        holds no more than any plan does at that op; the step runs in one piece if that shows that
        it has room. Default: what the machine has.

    Returns
    -------
    Workspaces
        With ``measured=False`` for a capture on fake tensors: then zeros, on a card what is known
        of its kernels.

    Raises
    ------
    CaptureError
        If a real kernel lays out its result so that a view of the traced step cannot be made.
    """
    if captured.fake:
        sizes = tuple(value.size for value in captured.graph.values)
        on_card = torch.device(captured.device).type == "cuda"
        known_bytes = tuple(
            temporary_bytes(nodes[0]) if on_card and nodes else 0 for nodes in captured.op_nodes
        )
        return Workspaces(known_bytes, sizes, False, captured.device, torch.get_num_threads())
    known = _known_of(captured)
    if known is not None:
        return known.workspaces
    alone = None
    if room_bytes is not None:
        alone = _Alone(captured, limit_bytes, loops, tensors).workspaces()
        captured_room = _keep_all_peak(alone.on(captured.graph)) <= room_bytes
    else:
        captured_room = True
    runs = tensors is not None and captured.whole is None and may_run(captured)
    if runs and captured_room and _has_room(captured):
        assert tensors is not None
        run = run_step(captured, tensors)
        if run is not None:
            return _remembered(captured, run)
    return alone or _Alone(captured, limit_bytes, loops, tensors).workspaces()


def _known_of(captured: Captured) -> _Known | None:
    known = _known.get(captured.joint)
    here = known is not None and known.workspaces.threads == torch.get_num_threads()
    return known if here else None


def _has_room(captured: Captured) -> bool:
    share = _SHARE_OF_ROOM.get(torch.device(captured.device).type, 0.5)
    if _keep_all_peak(captured.graph) <= share * room_of(captured.device):
        return True
    logger.info("The step is too large to be run for its bytes: each op is measured alone.")
    return False


def _keep_all_peak(graph: Graph) -> int:
    return simulate(graph, Schedule.keep_all(graph)).peak


def _remembered(captured: Captured, run: StepRun) -> Workspaces:
    """The workspaces that a real run shows."""
    calls, of_op = distinct_calls(captured)
    varied = [call for call in calls if call.weighs_contents]  # more may be set another time
    most = _peaks(varied, captured.device)
    at_most = [None if which is None else most.get(calls[which].key) for which in of_op]
    sizes = _largest_sizes(captured, run.sizes, at_most)
    by_key: dict[Key, CallBytes] = {}
    found: list[int] = []
    skipped: list[str] = []
    for i, (op, took) in enumerate(zip(captured.graph.ops, run.calls)):
        which = of_op[i]
        if took is None or which is None:
            if run.loss_workspace is None:
                skipped.append(op.name)
            found.append(run.loss_workspace or 0)
            continue
        key = calls[which].key
        least = most[key].peak if key in most else 0
        took = replace(took, peak=max(took.peak, least))
        by_key[key] = took if key not in by_key else _larger(by_key[key], took)
        found.append(max(took.peak - sum(sizes[v] for v in op.outputs), 0))
    _tell(skipped)
    made = Workspaces(
        tuple(found), sizes, not skipped, captured.device, torch.get_num_threads(),
        tuple(skipped),
    )  # fmt: skip
    _known[captured.joint] = _Known(made, by_key)
    return made


def _largest_sizes(
    captured: Captured, sizes: tuple[int, ...], most: Sequence[CallBytes | None]
) -> tuple[int, ...]:
    """The values' bytes in a real run, or what the ops that make them may take another time."""
    found = list(sizes)
    for i, took in enumerate(most):
        if took is None:
            continue
        for k, value in results_of_op(captured, i):
            if k < len(took.made):
                found[value] = max(found[value], took.made[k])
    return tuple(found)


def _larger(a: CallBytes, b: CallBytes) -> CallBytes:
    return CallBytes(max(a.peak, b.peak), tuple(map(max, a.made, b.made)))


def _tell(skipped: Sequence[str]) -> None:
    if skipped:
        logger.warning(
            "The workspace of %d ops (%s ...) was not measured.", len(skipped), skipped[0]
        )


# -- each op alone -------------------------------------------------------------------------------


class _Alone:
    """Each distinct op by itself; what a real run of the step in one piece showed is taken over."""

    def __init__(
        self,
        captured: Captured,
        limit_bytes: int,
        loops: frozenset[int],
        tensors: Tensors | None = None,
    ) -> None:
        self.captured = captured
        self.limit_bytes = limit_bytes
        self.loops = loops
        self.calls, self.of_op = distinct_calls(captured)
        run = {which for i, which in enumerate(self.of_op) if i not in loops}
        whole = None if captured.whole is None else _known_of(captured.whole)
        ran = {} if whole is None else whole.calls
        others = [
            call
            for which, call in enumerate(self.calls)
            if which in run and call.key not in ran and call.bytes <= limit_bytes
        ]
        own = None if tensors is None else with_views(captured, tensors)
        self.took = {**ran, **_peaks(others, captured.device, own)}
        self.sizes = [value.size for value in captured.graph.values]

    def workspaces(self) -> Workspaces:
        graph, skipped = self.captured.graph, list[str]()
        found: list[int] = []
        for i, op in enumerate(graph.ops):
            which = self.of_op[i]
            workspace: int | None
            if i in self.loops:
                workspace = 0
            elif which is None:
                workspace = self._boundary(i)
            else:
                workspace = self._op(i, self.took.get(self.calls[which].key))
            if workspace is None:
                skipped.append(op.name)
            found.append(workspace or 0)
        _tell(skipped)
        return Workspaces(
            tuple(found), tuple(self.sizes), not skipped, self.captured.device,
            torch.get_num_threads(), tuple(skipped),
        )  # fmt: skip

    def _op(self, i: int, took: CallBytes | None) -> int | None:
        if took is None:
            return None
        outputs = self.captured.graph.ops[i].outputs
        made: dict[int, int] = {}
        for k, value in results_of_op(self.captured, i):
            if value in outputs and k < len(took.made):
                made[value] = max(made.get(value, 0), took.made[k])
        for value, size in made.items():
            self.sizes[value] = size
        return max(took.peak - sum(self.sizes[v] for v in outputs), 0)

    def _boundary(self, i: int) -> int | None:
        """Bytes of the user's loss, beyond the outputs and their gradients; None: it cannot run."""
        captured = self.captured
        if not stands_outside(captured.loss, captured.tangents):
            return 0
        likes = [output.node.meta["val"] for output in held_outputs(captured)]
        if 4 * sum(like.numel() * like.itemsize for like in likes) > self.limit_bytes:
            return None
        sampler = Sampler(captured.device)
        tensors = [sampler.tensor(like) for like in likes]
        try:
            with quiet_state(captured.device), Scales(captured.device) as scales:
                runs = [
                    scales.weigh(partial(run_loss, captured, tensors, autocast=way)).loss_bytes
                    for way in ways_to_run(captured)
                ]
        except Exception as error:  # the user's own function
            logger.info("The loss cannot be measured alone: %s", error)
            return None
        outputs = captured.graph.ops[i].outputs
        for v in set(outputs) - set(captured.value_of.values()):
            self.sizes[v] = max(runs)
        return max(max(scales.peaks) - sum(self.sizes[v] for v in outputs), 0)


def _peaks(calls: Sequence[Call], device: str, own: Tensors | None = None) -> dict[Key, CallBytes]:
    """What each call takes on sampled arguments; calls that fail are left out.

    Parameters
    ----------
    own : mapping, optional
        Tensors that are there already, by node: parameters are not made a second time.
    """
    place = (device, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    fresh = [call for call in calls if (place, call.key) not in _sampled]
    if fresh:
        ran: list[tuple[int, ...] | None] = []
        with quiet_state(device), Scales(device) as scales:
            sampler = Sampler(device)
            for call in fresh:
                ran.append(_weigh(call, sampler, scales, own or {}))
        for call, made, peak in zip(fresh, ran, scales.peaks, strict=True):
            if made is not None:
                _sampled[place, call.key] = CallBytes(peak, made)
    known = ((call.key, _sampled.get((place, call.key))) for call in calls)
    return {key: took for key, took in known if took is not None}


def _weigh(call: Call, sampler: Sampler, scales: Scales, own: Tensors) -> tuple[int, ...] | None:
    """Bytes of the storages of a call's results; None if it fails alone."""
    args, kwargs = sampler.arguments(call, own)

    def run() -> Any:
        try:
            return run_call(call.node, args, kwargs), None
        except Exception as error:  # whatever an op may raise on arguments it does not like
            return None, error

    if scales.warms_up:
        run()
    made, error = scales.weigh(run)
    if error is not None:
        logger.info("%s cannot be measured alone: %s", call.node.name, error)
        return None
    results = made if isinstance(made, (tuple, list)) else (made,)
    tensors = [t if isinstance(t, torch.Tensor) else None for t in results]
    return tuple(0 if t is None else t.untyped_storage().nbytes() for t in tensors)
