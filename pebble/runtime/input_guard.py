"""The inputs that a plan was made for, found in every call and checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from pebble.errors import PlanMismatch
from pebble.runtime.tensor_spec import TensorSpec, mismatch
from pebble.tracing.shared_memory import share_memory, span_of, spans_meet
from pebble.tracing.signature import Output, Slot, SlotKind, overwritten_inputs
from pebble.tracing.torch_private.pytree import TreeSpec, call_leaves, tree_flatten

_CACHE = "kwargs['use_cache']"  # capture switches it off where the caller says nothing


@dataclass(frozen=True)
class _Form:
    """Where calls of one form have what was planned, as positions among their leaves.

    Attributes
    ----------
    places : tuple of int
        Of the tensors.
    twins : tuple of (int, int, names)
        Of two arguments that are one tensor.
    fixed : tuple of (int, str, object)
        Of what is no tensor, with its name and what was planned.
    """

    places: tuple[int, ...]
    twins: tuple[tuple[int, int, tuple[str, str]], ...]
    fixed: tuple[tuple[int, str, Any], ...]


class InputGuard:
    """The inputs that a step was captured on.

    Parameters
    ----------
    specs : tuple of TensorSpec
        In the order in which the step takes them; named by their path, such as ``args[0]`` or
        ``kwargs['input_ids']``.
    constants : mapping of str to object
        Inputs that are no tensors, by path.
    same : mapping of str to tuple of str, optional
        Other paths of a tensor: calls must pass the same elements of the same memory there.
    """

    def __init__(
        self,
        specs: tuple[TensorSpec, ...],
        constants: Mapping[str, Any],
        same: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.specs = specs
        self.same = dict(same or {})
        self.constants = dict(constants)
        # How calls of one form (positional, keywords, nesting) map to the planned inputs.
        self.forms: list[tuple[TreeSpec, _Form]] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"forms": []}

    def match(
        self, forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """The input tensors of a call.

        Parameters
        ----------
        forward : callable
            For its signature: an argument may be passed by position or by keyword.

        Raises
        ------
        PlanMismatch
            If one is absent, unexpected, or of another shape, dtype, device or layout.
        """
        leaves, form = tree_flatten((args, dict(kwargs)))
        known = next((f for f in self.forms if f[0] == form), None)
        if known is None:
            known = (form, self._read(forward, args, kwargs))
            self.forms.append(known)
        tensors = [leaves[i] for i in known[1].places]
        for spec, tensor in zip(self.specs, tensors):
            spec.check(tensor)
        for first, other, names in known[1].twins:
            if not _same_elements(leaves[first], leaves[other]):
                raise mismatch(
                    f"{names[0]!r} and {names[1]!r} were the same tensor at planning",
                    ", but are two tensors now.",
                )
        for i, name, planned in known[1].fixed:
            value = leaves[i]
            if value is not planned and not (type(value) is type(planned) and value == planned):
                raise mismatch(f"{name!r} was planned as {planned!r}", f", but is {value!r}.")
        return tensors

    def _read(self, forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Form:
        """Positions among the call's leaves of the planned tensors and constants."""
        parameters = list(inspect.signature(forward).parameters.values())
        found, _ = call_leaves(args, dict(kwargs))
        at: dict[str, int] = {}
        for i, (name, _) in enumerate(found):
            at[_by_keyword(name, parameters)] = i
        places, twins = [], []
        for spec in self.specs:
            places.append(self._position(at, spec.name, parameters))
            for other in self.same.get(spec.name, ()):
                position = self._position(at, other, parameters)
                twins.append((places[-1], position, (spec.name, other)))
        defaults = {f"kwargs[{p.name!r}]": p.default for p in parameters}
        fixed = []
        for name, value in self.constants.items():
            own = _by_keyword(name, parameters)
            here = at.pop(own, None)
            if here is not None:
                fixed.append((here, name, value))
            elif own != _CACHE and (own not in defaults or defaults[own] != value):
                self._wrong(f"{name!r} (planned as {value!r}) is missing")
        for name, position in at.items():
            value = found[position][1]
            if isinstance(value, torch.Tensor) or name not in defaults or defaults[name] != value:
                self._wrong(f"{name!r} is new")
            fixed.append((position, name, value))
        return _Form(tuple(places), tuple(twins), tuple(fixed))

    def _position(self, at: dict[str, int], name: str, parameters: list[inspect.Parameter]) -> int:
        position = at.pop(_by_keyword(name, parameters), None)
        if position is None:
            self._wrong(f"{name!r} is missing")
        return position

    def _wrong(self, what: str) -> NoReturn:
        names = ", ".join([*(spec.name for spec in self.specs), *self.constants])
        raise mismatch(f"This call differs from the plan's inputs ({names})", f": {what}.")


@dataclass(frozen=True)
class WriteGuard:
    """What a step writes to must share no memory with what a call passes.

    A capture refuses such inputs, so the step knows nothing of them. Places are positions among
    the tensors of a call.

    Attributes
    ----------
    names : tuple of str
        Of all tensors of a call.
    inputs : tuple of int
        What the caller passes.
    written : tuple of int
        What the step writes to: inputs, and buffers of the model.
    """

    names: tuple[str, ...]
    inputs: tuple[int, ...]
    written: tuple[int, ...]

    @classmethod
    def of(cls, slots: Sequence[Slot], outputs: Sequence[Output]) -> WriteGuard:
        """The guard of a step that is given these slots, in this order."""
        overwritten = overwritten_inputs(slots, outputs)
        return cls(
            tuple(slot.name for slot in slots),
            tuple(i for i, slot in enumerate(slots) if slot.kind is SlotKind.INPUT),
            tuple(i for i, slot in enumerate(slots) if slot.node in overwritten),
        )

    def check(self, tensors: Sequence[torch.Tensor]) -> None:
        """Raise `PlanMismatch` if an input shares memory with what the step writes to."""
        if not self.written or not self.inputs:
            return
        given = [(i, span_of(tensors[i])) for i in self.inputs]
        held = None
        for w in self.written:
            span, others = span_of(tensors[w]), given
            if w in self.inputs:
                if held is None:
                    known = set(self.inputs)
                    held = [(i, span_of(t)) for i, t in enumerate(tensors) if i not in known]
                others = given + held
            for i, other in others:
                if i != w and spans_meet(span, other) and share_memory(tensors[w], tensors[i]):
                    raise PlanMismatch(
                        f"{self.names[w]!r}, which the planned step writes to, shares memory with "
                        f"{self.names[i]!r}; at planning they were apart. Pass a copy of one of "
                        "them (.clone()), or apply the plan with on_mismatch='eager'."
                    )


def _same_elements(a: torch.Tensor, b: Any) -> bool:
    return a is b or (
        isinstance(b, torch.Tensor)
        and span_of(a) == span_of(b)
        and (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)
        and not b.requires_grad
    )


def _by_keyword(path: str, parameters: list[inspect.Parameter]) -> str:
    """The path of an argument as if it were passed by keyword."""
    if not path.startswith("args["):
        return path
    number, _, rest = path.removeprefix("args[").partition("]")
    i = int(number)
    if i < len(parameters) and parameters[i].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return f"kwargs[{parameters[i].name!r}]{rest}"
    return path
