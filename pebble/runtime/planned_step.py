"""One planned training step: forward half, tape, backward half, as one autograd function."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pebble.errors import PebbleError, PebbleWarning
from pebble.notices import warn
from pebble.runtime.backward_half import BackwardHalf
from pebble.runtime.boxed_code import compile_boxed
from pebble.runtime.cut_outputs import CutOutputs
from pebble.runtime.gradient_order import gradient_order, in_turn
from pebble.runtime.gradient_takers import Taker, takers_of
from pebble.runtime.split_graphs import Halves, split
from pebble.runtime.thread_fits import threads_held
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.differentiated_outputs import short_name
from pebble.tracing.output_templates import put_together
from pebble.tracing.signature import HELD, OutputKind
from pebble.tracing.torch_private.autograd import below_autograd, version_of
from pebble.tracing.wrapped import running_data_parallel


class PlannedStep:
    """Runs the two halves of a captured step by a schedule.

    Parameters
    ----------
    captured : Captured
    schedule : Schedule

    Notes
    -----
    Bytes are the referee's: what crosses the boundary is held by nobody but the tape, which hands
    it to the backward half boxed; updated buffers are released when the backward begins.
    Tensor hooks for saved tensors (offloading) do not apply to the tape.
    """

    told_autocast = False  # a backward ran inside of autocast, and a warning said so

    def __init__(self, captured: Captured, schedule: Schedule) -> None:
        halves = split(captured, schedule, hand_overs=True)
        self.forward = compile_boxed(halves.forward)
        self.backward = BackwardHalf(halves.backward, captured.tangents)
        self.n_outputs = halves.n_outputs
        self.device_type = torch.device(captured.device).type
        fed = [slot for slot in captured.slots if slot.fed]
        position = {slot.node: i for i, slot in enumerate(fed)}
        self.differentiated = [position[n] for n in position if n in captured.gradients]
        self.order = gradient_order(captured, [fed[i] for i in self.differentiated])
        kinds = [output.kind for output in captured.outputs]
        self.differentiable = [i for i, k in enumerate(kinds) if k is OutputKind.DIFFERENTIABLE]
        self.returned = [i for i, kind in enumerate(kinds) if kind in HELD]
        self.cut = CutOutputs.of(captured)
        self.twins = _twins(captured, self.differentiable)
        by_name = {name: i for i, s in enumerate(fed) for name in (s.name, *s.aliases)}
        self.updates = [
            (i, by_name[output.name])
            for i, output in enumerate(captured.outputs)
            if output.kind not in HELD
        ]
        # not all that was captured
        self.rebuild = functools.partial(put_together, captured.template)
        self._runs: weakref.WeakSet[_StepRun] = weakref.WeakSet()
        self._plan_tape(captured, halves, {slot.node: slot.name for slot in fed})

    def _plan_tape(self, captured: Captured, halves: Halves, names: dict[Any, str]) -> None:
        """What on the tape other people can see: to be detached, or checked for changes."""
        results = next(iter(reversed(halves.forward.graph.nodes))).args[0]
        handed, kept = results[: self.n_outputs], results[self.n_outputs :]
        roots = {handed[i] for i in self.differentiable}
        # by memory: a view of an output that was changed in place has changed, too
        shown = {captured.value_of[captured.outputs[i].node]: i for i in self.returned}
        updated = {i for _, i in self.updates}
        changing = {node for i, node in enumerate(names) if i in updated}
        self.detached = [i for i, node in enumerate(kept) if node in roots]
        self.watched = []
        for i, source in enumerate(halves.saved):
            value = captured.value_of[source]
            if source in names and source not in changing:
                self.watched.append((i, repr(names[source])))
            elif source not in names and value in shown:
                output = short_name(captured.outputs[shown[value]].name)
                self.watched.append((i, f"The output {output!r}"))

    def __call__(self, tensors: list[torch.Tensor], threads: int | None = None) -> Any:
        """Run the forward half.

        Parameters
        ----------
        tensors : list of Tensor
            One per placeholder slot, in slot order.
        threads : int, optional
            The number of threads that the kernels of both halves keep to.

        Returns
        -------
        object
            What the captured forward returns: differentiable outputs with autograd, others
            detached.
        """
        step = _StepRun(self, tensors, threads)
        self._runs.add(step)
        differentiated = [tensors[i] for i in self.differentiated]
        given = differentiated
        if running_data_parallel() is not None:
            given, step.behind_views = in_turn(differentiated, self.order)
        made = _Function.apply(step, *given)  # type: ignore[no-untyped-call]
        # not kept by the step, which the outputs' grad_fn keeps: that would be a cycle
        outputs, step.handed = step.handed, []
        for i, tensor in zip(self.differentiable, made):
            outputs[i] = tensor
        self.cut.replace(outputs, differentiated)
        for i, first in self.twins.items():
            outputs[i] = outputs[first]
        return self.rebuild([outputs[i] for i in self.returned])

    def waiting(self) -> list[list[torch.Tensor]]:
        """The tapes of calls whose backward has not run, and may yet."""
        return [run.tape for run in self._runs if run.tape is not None]

    def tell_autocast(self) -> None:
        """Warn once where a backward is called within autocast, which eager casts once more."""
        if self.told_autocast:
            return
        if any(torch.is_autocast_enabled(kind) for kind in ("cpu", self.device_type)):
            self.told_autocast = True
            warn(
                "backward() of a planned step was called inside torch.autocast: the plan computes "
                "gradients as they are outside of it, where eager rounds them once more, so that "
                "they differ by the rounding of the half precision. Leave autocast before "
                "backward(), as torch advises (Lightning's manual optimization stays inside).",
                PebbleWarning,
            )

    @contextlib.contextmanager
    def plain_dispatch(self, threads: int | None = None) -> Iterator[None]:
        """Ops run as the graph has them: no autograd bookkeeping, no ambient autocast."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(threads_held(threads))
            for device in {"cpu", self.device_type}:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(below_autograd())
            yield


def _twins(captured: Captured, roots: Sequence[int]) -> dict[int, int]:
    """Outputs that are another one, which is differentiated, itself: its position for each."""
    first: dict[Any, int] = {}
    for i in roots:
        first.setdefault(captured.outputs[i].node, i)
    return {
        i: first[output.node]
        for i, output in enumerate(captured.outputs)
        if output.kind in (OutputKind.DIFFERENTIABLE, OutputKind.CUT)
        and first.get(output.node, i) != i
    }


class _StepRun:
    """The state of one step between its halves."""

    def __init__(self, plan: PlannedStep, tensors: list[torch.Tensor], threads: int | None) -> None:
        self.plan = plan
        self.threads = threads
        self.tensors = tensors
        self.handed: list[Any] = []
        self.tape: list[torch.Tensor] | None = None
        self.held: list[torch.Tensor] = []
        self.versions: list[int] = []
        self.behind_views: list[int] = []  # positions of leaves that come as views of them

    def run_forward(self) -> tuple[torch.Tensor, ...]:
        plan, n = self.plan, self.plan.n_outputs
        with plan.plain_dispatch(self.threads):
            results = plan.forward(list(self.tensors))
        outputs, tape = list(results[:n]), list(results[n:])
        del results
        for i, target in plan.updates:
            self.tensors[target].copy_(outputs[i])
        # The boundary reads updated buffers while the root gradient is there: they go with it.
        self.held = [outputs[i] for i, _ in plan.updates]
        for i in plan.detached:
            # or the tape would hold a tensor whose grad_fn holds the tape
            tape[i] = tape[i].detach()
        self.versions = [version_of(tape[i]) for i, _ in plan.watched]
        self.tape = tape
        self.tensors = []
        roots = tuple(
            outputs[i].detach() if i in plan.twins else outputs[i] for i in plan.differentiable
        )
        for i in plan.differentiable:
            outputs[i] = None
        self.handed = outputs
        for i, _ in plan.updates:
            outputs[i] = None
        return roots

    def run_backward(
        self, tangents: tuple[torch.Tensor | None, ...], takers: list[Taker]
    ) -> tuple[Any, ...]:
        plan, tape = self.plan, self.tape
        if tape is None:
            raise PebbleError(
                "A planned step runs its backward once, for all of its outputs: what it saved is "
                "gone. Add up what is to be differentiated, or call the model again before a "
                "second backward (retain_graph cannot bring it back); take second derivatives "
                "from the model without the plan."
            )
        if torch.is_grad_enabled():
            raise PebbleError(
                "A planned step has no derivative of its backward (create_graph=True). Use the "
                "model without the plan for double backward."
            )
        for version, (i, name) in zip(self.versions, plan.watched):
            if version_of(tape[i]) != version:
                raise PebbleError(
                    f"{name} was modified in place between the forward and the backward of a "
                    "planned step, which needs its old contents. Modify a copy, or call backward "
                    "first."
                )
        plan.tell_autocast()
        self.tape = None
        self.held.clear()
        with plan.plain_dispatch(self.threads):
            return plan.backward(tape, tangents, takers)


class _Function(torch.autograd.Function):
    """The step as autograd sees it: from what is differentiated to the differentiable outputs."""

    @staticmethod
    def forward(ctx: Any, step: _StepRun, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.step = step
        return step.run_forward()

    @staticmethod
    def backward(ctx: Any, *tangents: torch.Tensor | None) -> tuple[Any, ...]:
        takers = takers_of(ctx, behind_views=ctx.step.behind_views)
        return (None, *ctx.step.run_backward(tangents, takers))
