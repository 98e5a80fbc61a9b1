"""One real run of a captured step, op by op: which storages it makes, what each op takes beside."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from pebble.errors import CaptureError
from pebble.measure.allocator import Scales
from pebble.measure.loss_run import held_outputs, run_loss, ways_to_run
from pebble.measure.sampling import CallBytes, distinct_calls, quiet_state, results_of_op, run_call
from pebble.tracing.aten_rules import idle_inputs
from pebble.tracing.captured import Captured
from pebble.tracing.torch_private.autograd import below_autograd
from pebble.tracing.torch_private.operators import OpOverload, is_mutable
from pebble.tracing.torch_private.storages import storage_id

logger = logging.getLogger("pebble")

_OWN_MEMORY = ("aten", "prims", "torchvision", "quantized_decomposed", "pebble")
Tensors = Mapping[fx.Node, torch.Tensor]


@dataclass(frozen=True)
class StepRun:
    """What one real run of a step showed.

    Attributes
    ----------
    sizes : tuple of int
        Bytes of every value of the graph, as allocated.
    calls : tuple of CallBytes or None
        One an op; None for the boundary.
    loss_workspace : int or None
        Bytes of the boundary beyond what it hands over; None if the loss could not be run.
    """

    sizes: tuple[int, ...]
    calls: tuple[CallBytes | None, ...]
    loss_workspace: int | None


def may_run(captured: Captured) -> bool:
    """Whether every op only reads what it is given and speaks to nobody."""
    targets = {node.target for nodes in captured.op_nodes for node in nodes[:1]}
    return all(
        isinstance(t, OpOverload) and t.namespace in _OWN_MEMORY and not is_mutable(t)
        for t in targets
    )


def run_step(captured: Captured, tensors: Tensors) -> StepRun | None:
    """Run a captured step once on real tensors, everything kept as long as it is read.

    Parameters
    ----------
    captured : Captured
    tensors : mapping
        One a slot. They are read only; the random state is kept.

    Returns
    -------
    StepRun or None
        None where an op refuses the numbers that it is given.

    Raises
    ------
    CaptureError
        If a real kernel lays out its result so that a view of the traced step cannot be made.
    """
    run = _Run(captured, tensors)
    try:
        with quiet_state(captured.device), Scales(captured.device) as scales:
            run.all(scales)
    except _Refused as refused:
        logger.warning(
            "The step cannot be run on these inputs (%s), so each op was measured alone on made-up "
            "numbers.", refused,
        )  # fmt: skip
        return None
    return run.result(scales.peaks)


class _Refused(Exception):
    """An op that raised."""


def _call(node: fx.Node, args: Any, kwargs: Any) -> Any:
    try:
        with below_autograd():
            return run_call(node, args, kwargs)
    except Exception as error:  # whatever an op may raise on numbers it does not like
        raise _Refused(f"{node.name}: {error}") from error


def _ones(like: torch.Tensor, device: str) -> torch.Tensor:
    made = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)
    return made.fill_(1)


class _Run:
    def __init__(self, captured: Captured, tensors: Tensors) -> None:
        self.captured = captured
        self.graph = captured.graph
        self.known: dict[fx.Node, Any] = dict(tensors)
        self.left = {node: len(node.users) for node in captured.joint.graph.nodes}
        self.storages: list[dict[int, int]] = [{} for _ in self.graph.values]
        self.made: list[tuple[int, ...] | None] = [None] * len(self.graph.ops)
        self.loss_bytes: int | None = None
        self.warmed: set[int] = set()
        self.which = distinct_calls(captured)[1]
        for node, tensor in tensors.items():
            self._note(captured.value_of[node], tensor)

    def all(self, scales: Scales) -> None:
        for i, nodes in enumerate(self.captured.op_nodes):
            if i == self.graph.boundary:
                self._boundary(scales)
            elif nodes:
                self._op(i, scales)

    def result(self, peaks: list[int]) -> StepRun:
        cut = self.graph.boundary
        assert cut is not None, "a captured step has a boundary"
        # the boundary may have been weighed several times
        before, after = peaks[:cut], peaks[len(peaks) - (len(self.made) - cut - 1) :]
        loss_peak = max(peaks[cut : len(peaks) - len(after)])
        weighed = [*before, loss_peak, *after]
        calls = tuple(
            None if made is None else CallBytes(peak, made)
            for peak, made in zip(weighed, self.made, strict=True)
        )
        sizes = [v.size for v in self.graph.values]
        for v, storages in enumerate(self.storages):
            if self.graph.values[v].external:
                sizes[v] += sum([*storages.values()][1:])  # what the trace took for views
            elif storages:
                sizes[v] = sum(storages.values())
        workspace = None
        if self.loss_bytes is not None:
            made = self.graph.ops[cut].outputs
            for v in set(made) - set(self.captured.value_of.values()):  # the loss, if outside
                sizes[v] = self.loss_bytes
            workspace = max(loss_peak - sum(sizes[v] for v in made), 0)
        return StepRun(tuple(sizes), calls, workspace)

    # -- pieces ------------------------------------------------------------------------------

    def _op(self, i: int, scales: Scales) -> None:
        nodes = self.captured.op_nodes[i]
        node = nodes[0]
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._read)
        idle = idle_inputs(node)  # some kernels write to them
        if idle:
            own = {id(self._read(arg)): self._read(arg).clone() for arg in idle}
            args = tuple(own.get(id(arg), arg) for arg in args)

        call = functools.partial(_call, node, args, kwargs)
        which = self.which[i]
        if which is not None and which not in self.warmed:
            self.warmed.add(which)
            if scales.warms_up:
                call()
        made = scales.weigh(call)
        results = made if isinstance(made, (tuple, list)) else (made,)
        self.made[i] = tuple(
            t.untyped_storage().nbytes() if isinstance(t, torch.Tensor) else 0 for t in results
        )
        for k, value in results_of_op(self.captured, i):
            if k < len(results) and isinstance(results[k], torch.Tensor):
                self._note(value, results[k])
        for item in nodes[1:]:
            if item.users:
                place: Any = item.args[1]
                self.known[item] = results[place]
        if len(nodes) == 1:
            self.known[node] = made
        del made, results, args, kwargs, call
        self._release(node)
        if not node.users:
            self.known.pop(node, None)

    def _read(self, node: fx.Node) -> Any:
        """What a node stands for; a view is made when it is read first."""
        if node in self.known:
            return self.known[node]
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._read)
        try:
            with below_autograd():
                made = node.target(*args, **kwargs)  # type: ignore[operator]
        except Exception as error:
            raise CaptureError(
                f"The traced step takes {node.name!r} as a view of {node.args[0]}, but the kernel "
                f"that makes the latter lays it out otherwise ({error}). Make it contiguous there "
                "in the model's forward."
            ) from error
        self.known[node] = made
        value = self.captured.value_of.get(node)
        if value is not None and isinstance(made, torch.Tensor):
            self._note(value, made)
        self._release(node)
        return made

    def _boundary(self, scales: Scales) -> None:
        captured = self.captured
        outputs = []
        for output in held_outputs(captured):
            tensor = self._read(output.node).detach()
            outside = self.graph.values[captured.value_of[output.node]].external
            outputs.append(tensor.clone() if outside else tensor)  # a loss may write to it
        for output in captured.outputs:
            self._read(output.node)
        tangents: list[torch.Tensor] = []
        try:
            for way in ways_to_run(captured):
                tangents.clear()
                run = scales.weigh(functools.partial(run_loss, captured, outputs, autocast=way))
                self.loss_bytes = max(run.loss_bytes, self.loss_bytes or 0)
                tangents += run.tangents
                del run
        except Exception as error:  # the user's own function
            logger.info("The loss cannot be run: %s", error)
            self.loss_bytes = None
            tangents = [_ones(slot.node.meta["val"], captured.device) for slot in captured.tangents]
        for slot, tangent in zip(captured.tangents, tangents):
            self.known[slot.node] = tangent
            self._note(captured.value_of[slot.node], tangent)

    # -- what is held --------------------------------------------------------------------------

    def _note(self, value: int, tensor: torch.Tensor) -> None:
        """A value has this storage, perhaps beside others that the trace took for views of it."""
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            self.storages[value][storage_id(storage)] = storage.nbytes()

    def _release(self, node: fx.Node) -> None:
        for arg in node.all_input_nodes:
            self.left[arg] -= 1
            if not self.left[arg]:
                self.known.pop(arg, None)
