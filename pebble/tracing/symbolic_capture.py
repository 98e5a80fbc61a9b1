"""One capture of a training step for many sizes of its inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pebble.errors import CaptureError
from pebble.tracing.captured import Captured
from pebble.tracing.model_in_trace import in_trace
from pebble.tracing.plannable import plannable
from pebble.tracing.python_reads import PythonReads
from pebble.tracing.refusals import attempt, check_layouts, lost_state
from pebble.tracing.signature import SlotKind
from pebble.tracing.step_capture import Front, finish, reader, without_cache
from pebble.tracing.step_form import StepForm
from pebble.tracing.torch_private.dynamo import ForwardTrace
from pebble.tracing.torch_private.joint_export import JointTrace, trace_joint
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.sized_joint import at_sizes
from pebble.tracing.torch_private.storages import storage_bytes
from pebble.tracing.torch_private.symbolic_sizes import (
    SizeDomain,
    depends_on_data,
    is_symbolic,
    open_sizes,
)
from pebble.tracing.traced_inputs import TracedInputs


@dataclass(frozen=True)
class SymbolicStep:
    """A training step traced with sizes of its inputs left open.

    Attributes
    ----------
    front : Front
    joint : JointTrace
        Forward and backward, of open sizes.
    domain : SizeDomain
        For which sizes it holds.
    form : StepForm
    reads : PythonReads
        The Python state that it depends on.
    """

    front: Front
    joint: JointTrace
    domain: SizeDomain
    form: StepForm
    reads: PythonReads

    @classmethod
    def capture(
        cls,
        model: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        form: StepForm,
        dimensions: Mapping[str, Collection[int]],
    ) -> SymbolicStep:
        """Trace a step with dimensions of its inputs left open; nothing is computed.

        Parameters
        ----------
        model, args, kwargs
            As for `pebble.tracing.capture`.
        form : StepForm
        dimensions : mapping of str to collection of int
            By the path of an input, such as ``kwargs['input_ids']``. Dimensions of one size stay
            equal to one another.

        Raises
        ------
        CaptureError
            If a size depends on data, or Python state that the forward sets on a size.
        """
        model = plannable(model)
        inputs = TracedInputs.of(model, args, without_cache(model, kwargs))
        left_open = [dimensions.get(path, ()) for path in inputs.paths]
        read = reader(form.loss, form.differentiate, loss_only=form.loss_only)
        with in_trace(model):
            with open_sizes(inputs.tensors, left_open):
                front = Front.of(model, inputs, read, _check_open)
            changes = front.traced.writes.writes or lost_state(front.traced, model)
            if changes or _has_size(front.output.template):
                raise _refused(model, "hands a size, or what depends on one, to Python")
            traced = {
                id(tensor): node.meta["example_value"]
                for tensor, node in zip(front.traced.tensors, _placeholders(front.traced))
            }
            given = [traced.get(id(tensor)) for tensor in inputs.tensors]
            if any(example is None for example in given):
                raise _refused(model, "does not use one of its inputs")
            known = {id(t): e for t, e in zip(inputs.tensors, given) if e is not None}
            mode = front.traced.fake_mode
            forward = front.forward
            joint = attempt(
                "backward",
                model,
                lambda: trace_joint(forward.graph_module, forward.tensors, mode, known),
            )
            check_layouts(joint.graph_module, model)
        domain = SizeDomain(tuple(known[id(t)] for t in inputs.tensors), mode.shape_env)
        return cls(front, joint, domain, form, front.traced.reads.settled(model))

    def at(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured | None:
        """The captured step for inputs of other sizes; None if the trace does not hold for them.

        What else it depends on (`reads`, modes, autocast) is compared by whoever follows it.
        """
        model = plannable(model)
        inputs = TracedInputs.of(model, args, without_cache(model, kwargs))
        numbers = self.domain.numbers(inputs.tensors)
        if numbers is None or inputs.constants != self.front.state.constants:
            return None
        fed = iter(inputs.tensors)
        tensors = tuple(
            next(fed) if kind is SlotKind.INPUT else tensor
            for kind, tensor in zip(self.front.forward.kinds, self.front.forward.tensors)
        )
        forward = replace(self.front.forward, tensors=tensors)
        front = replace(self.front, forward=forward)
        sized = at_sizes(self.joint, tensors, numbers)
        captured = finish(model, inputs, front, sized, self.form.loss)
        given = storage_bytes(t for t in tree_leaves((args, dict(kwargs))) if torch.is_tensor(t))
        captured = replace(
            captured,
            loss_only=self.form.loss_only,
            differentiate=self.form.differentiate,
            input_bytes=given,
            reads=self.reads,
        )
        return self.form.transform(captured)


def _check_open(traced: ForwardTrace, model: nn.Module) -> None:
    if depends_on_data(traced.graph_module.graph):
        raise _refused(model, "has sizes that depend on data")
    if any(is_symbolic(node.meta["example_value"]) for node in _placeholders(traced)):
        raise _refused(model, "uses nothing of an input but its size")


def _placeholders(traced: ForwardTrace) -> list[Any]:
    return [n for n in traced.graph_module.graph.nodes if n.op == "placeholder"]


def _has_size(template: Any) -> bool:
    return any(is_symbolic(leaf) for leaf in tree_leaves(template))


def _refused(model: nn.Module, why: str) -> CaptureError:
    return CaptureError(
        f"The forward of {type(model).__name__} {why}: it is traced for every shape by itself."
    )
