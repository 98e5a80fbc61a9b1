"""Calls rounded up to a few sizes, where that leaves the numbers of the step as they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from pebble.runtime.follower import unplanned
from pebble.runtime.input_forms import InputForm
from pebble.runtime.padding_proof import Cuts, PaddingProof
from pebble.runtime.planner import Planned, Planner
from pebble.tracing.inputs import Inputs
from pebble.tracing.open_dimensions import SizeHistory
from pebble.tracing.torch_private.pytree import call_leaves, tree_flatten, tree_unflatten
from pebble.tracing.torch_private.storages import storage_bytes

_MASK, _IDS = "attention_mask", "input_ids"
_LEFT_OUT = -100
"""What cross entropy ignores."""


class Call(NamedTuple):
    """Arguments of the model's forward."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Rounding:
    """How calls of one form are rounded up, and what is cut from their outputs.

    Attributes
    ----------
    sizes : mapping of str to mapping of int to int
        By the path of an input, its new sizes by dimension.
    fills : mapping of str to number
    masked : bool
        Whether an attention mask is added, which the call does not have.
    cuts : Cuts
        By the index of an output, the dimensions that are cut and to which size.
    """

    sizes: Mapping[str, Mapping[int, int]]
    fills: Mapping[str, float]
    masked: bool
    cuts: Cuts

    def padded(self, call: Call) -> Call:
        """A call rounded up. What is one tensor stays one."""
        made: dict[int, torch.Tensor] = {}
        leaves, _ = call_leaves(call.args, dict(call.kwargs))
        parts: list[Any] = []
        for path, leaf in leaves:
            if path in self.sizes and id(leaf) not in made:
                made[id(leaf)] = _padded(leaf, self.sizes[path], self.fills[path])
            parts.append(made.get(id(leaf), leaf) if path in self.sizes else leaf)
        _, spec = tree_flatten((call.args, dict(call.kwargs)))
        args, kwargs = tree_unflatten(parts, spec)
        if self.masked:
            ids = call.kwargs[_IDS]
            ones = torch.ones(ids.shape, dtype=torch.long, device=ids.device)
            kwargs[_MASK] = _padded(ones, self.sizes[f"kwargs['{_IDS}']"], 0)
        return Call(args, kwargs)

    def cut(self, output: Any) -> Any:
        """An output without what belongs to the padding: no gradient of the loss reaches that."""
        leaves, spec = tree_flatten(output)
        for index, narrowed in self.cuts.items():
            leaf = leaves[index]
            if not isinstance(leaf, torch.Tensor):
                continue  # not handed over
            for axis, size in narrowed:
                leaf = leaf.narrow(axis, 0, size)
            leaves[index] = leaf
        return tree_unflatten(leaves, spec)


Plan = Callable[[InputForm, Call], Planned]
"""Makes a plan for a call."""


class PaddedCalls:
    """Rounds up the lengths of calls for which no trace of open sizes can be had.

    A length is what varies behind the first dimension. A call of a new form is computed by eager
    once as it is and once rounded up, before anything trains by it.

    Parameters
    ----------
    multiple : int
    """

    def __init__(self, multiple: int) -> None:
        self.multiple = multiple
        self._seen = SizeHistory()
        self._known: dict[InputForm, Rounding | None] = {}
        self._planned: dict[InputForm, Planned] = {}
        self._beside: dict[InputForm, int] = {}

    def beside_bytes(self, form: InputForm) -> int:
        """Of the inputs themselves, at most, beside those of a padded form; 0 for other forms."""
        return self._beside.get(form, 0)

    def __reduce__(self) -> tuple[type[PaddedCalls], tuple[int]]:
        return PaddedCalls, (self.multiple,)

    def rounding(
        self,
        form: InputForm,
        module: nn.Module,
        call: Call,
        planner: Planner,
        plan: Plan,
    ) -> Rounding | None:
        """How a call is rounded up; None if it is planned as it is.

        Parameters
        ----------
        plan : callable
            Makes a plan for a call.

        Raises
        ------
        InvalidArgument
            If the rounded call has other numbers.
        InfeasibleBudget, CaptureError
        """
        if form not in self._known:
            found = self._proposed(module, call, planner)
            if found is not None:
                found = self._proved(found, module, call, plan)
            self._known[form] = found
        return self._known[form]

    def _proposed(self, module: nn.Module, call: Call, planner: Planner) -> Rounding | None:
        inputs = Inputs(*call)
        varying = self._seen.varying(inputs)
        self._seen.note(inputs)
        if varying is None or planner.has_open_trace(unplanned(module), *call):
            return None
        tensors = dict(call_leaves(call.args, dict(call.kwargs))[0])
        sizes: dict[str, dict[int, int]] = {}
        for path, axis in (place for group in varying.groups for place in group):
            size = tensors[path].shape[axis]
            if axis and size % self.multiple:
                sizes.setdefault(path, {})[axis] = -(-size // self.multiple) * self.multiple
        if not sizes or any(tensors[path].requires_grad for path in sizes):
            return None
        names = _names(module, call)
        fills = {path: _fill(names.get(path, path), tensors[path]) for path in sizes}
        ids = f"kwargs['{_IDS}']"
        takes = _MASK in _parameters(module) and _MASK not in names.values()
        return Rounding(sizes, fills, takes and list(sizes.get(ids, ())) == [1], {})

    def _proved(
        self,
        found: Rounding,
        module: nn.Module,
        call: Call,
        plan: Plan,
    ) -> Rounding:
        padded = found.padded(call)
        form = InputForm.of(*padded)
        if form not in self._planned:
            # the loop holds what was padded, at most as large as the padded
            self._beside[form] = storage_bytes(Inputs(*padded).tensors())
            self._planned[form] = plan(form, padded)
        made = self._planned[form]
        proof = PaddingProof(self.multiple, made.member.promise, made.eager_bytes)
        cuts = proof.cuts(module, call, padded)
        return Rounding(found.sizes, found.fills, found.masked, cuts)


def _parameters(module: nn.Module) -> list[str]:
    return list(inspect.signature(type(unplanned(module)).forward).parameters)[1:]


def _names(module: nn.Module, call: Call) -> dict[str, str]:
    """The name of each argument, by its path."""
    ordered = zip(_parameters(module), range(len(call.args)))
    found = {f"args[{i}]": name for name, i in ordered}
    return found | {f"kwargs[{name!r}]": name for name in call.kwargs}


def _fill(name: str, tensor: torch.Tensor) -> float:
    left_out = "label" in name or "target" in name
    whole = not tensor.is_floating_point() and tensor.dtype is not torch.bool
    return _LEFT_OUT if left_out and whole else 0


def _padded(tensor: torch.Tensor, sizes: Mapping[int, int], fill: float) -> torch.Tensor:
    """A tensor filled up behind its end along some dimensions."""
    widths: list[int] = []
    for axis in reversed(range(tensor.dim())):
        widths += [0, sizes.get(axis, tensor.shape[axis]) - tensor.shape[axis]]
    return F.pad(tensor, widths, value=fill)
