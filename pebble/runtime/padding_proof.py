"""Does a padded call compute what the call itself does? Asked of eager, within the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.formatting import gigabytes
from pebble.runtime.follower import unplanned
from pebble.runtime.promise import Promise
from pebble.runtime.random_states import RandomStates, random_states_kept
from pebble.tracing.torch_private.pytree import tree_flatten, tree_leaves, tree_map_only

Cuts = Mapping[int, tuple[tuple[int, int], ...]]
_ROUNDINGS = 1000
"""By so many roundings, relative to its largest entry, a tensor may differ."""
_FEW = 2
"""Rows that are compared where the budget does not hold a step of eager on all of them."""


@dataclass(frozen=True)
class PaddingProof:
    """A step of eager beside one on padded inputs.

    Attributes
    ----------
    multiple : int
    promise : Promise
        Of the plan for the padded call.
    eager_bytes : int
        Predicted peak of the padded step without a plan; 0 if it is not known.
    """

    multiple: int
    promise: Promise
    eager_bytes: int

    def cuts(self, module: nn.Module, call: Any, padded: Any) -> Cuts:
        """What is to be cut from the outputs of the padded call.

        Raises
        ------
        InvalidArgument
            If loss, gradients or buffers differ, random numbers are drawn, or the two steps cannot
            be compared within the budget.
        """
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            raise self._refused("is not compared under autocast")
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters()):
            raise self._refused("is not compared in 16 bits: rounding hides what padding changes")
        rows = self._rows(module, call)
        found = []
        for args, kwargs in (call, padded):
            few = tree_map_only(torch.Tensor, lambda t: t[:rows], (args, dict(kwargs)))
            found.append(self._left_by(module, *(few if rows else (args, kwargs))))
        (mine, shapes), (other, longer) = found
        if [type(s) for s in shapes] != [type(s) for s in longer]:
            raise self._refused("changes what the model returns")
        for name, tensor in mine.items():
            if _differ(tensor, other.get(name)):
                raise self._refused(f"changes {name}: what is padded is not left out")
        return {
            i: tuple((axis, n) for axis, (n, m) in enumerate(zip(a, b)) if n != m)
            for i, (a, b) in enumerate(zip(shapes, longer, strict=True))
            if a != b and self._is_shape(a)
        }

    def _is_shape(self, found: Any) -> bool:
        if not isinstance(found, tuple):
            raise self._refused(f"changes an output that is no tensor, here {found!r}")
        return True

    def _refused(self, why: str) -> InvalidArgument:
        return InvalidArgument(
            f"pad_to={self.multiple} {why}. Leave pad_to out: every shape is then planned by "
            "itself; or pad the batches before they reach the model."
        )

    def _rows(self, module: nn.Module, call: Any) -> int | None:
        """How many rows are compared, so that the budget holds it; None for all as they are."""
        budget = self.promise.budget_bytes
        gradients = 2 * sum(p.nbytes for p in module.parameters() if p.requires_grad)
        resident = 0 if self.promise.resident is None else self.promise.resident.total
        if budget is None or (self.eager_bytes and self.eager_bytes + gradients <= budget):
            return None
        sizes = {t.shape[0] if t.dim() else 0 for t in tree_leaves(call) if torch.is_tensor(t)}
        if len(sizes) == 1 and self.eager_bytes:
            (rows,) = sizes
            share = (self.eager_bytes - resident) * min(_FEW, rows) // max(rows, 1)
            if rows > _FEW and resident + share + gradients <= budget:
                return _FEW
        raise self._refused(f"cannot be compared with the call itself within {gigabytes(budget)}")

    def _left_by(
        self, module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[dict[str, torch.Tensor | None], list[Any]]:
        """Losses, gradients and buffers by name; shapes of outputs, or what is no tensor."""
        parameters = dict(module.named_parameters())
        held = {name: p.grad for name, p in parameters.items()}
        buffers = {name: b.clone() for name, b in module.named_buffers()}
        device = next((p.device for p in parameters.values()), torch.device("cpu"))
        try:
            for p in parameters.values():
                p.grad = None
            with random_states_kept(device):
                before = RandomStates.now(device)
                output = unplanned(module)(*args, **kwargs)
                drawn = not before.same_as(RandomStates.now(device))
                leaves = [t for t in tree_flatten(output)[0] if isinstance(t, torch.Tensor)]
                roots = [t for t in leaves if t.requires_grad and not t.dim()]
                if drawn:
                    raise self._refused(
                        "changes what is drawn at random, such as what a dropout leaves out"
                    )
                if not roots:
                    raise self._refused("needs a model that computes its loss itself")
                torch.autograd.backward(roots)
            left: dict[str, torch.Tensor | None] = {
                f"the loss (output {i})": t.detach().clone() for i, t in enumerate(roots)
            }
            left |= {f"the gradient of {name!r}": p.grad for name, p in parameters.items()}
            left |= {f"the buffer {name!r}": b.clone() for name, b in module.named_buffers()}
            every = tree_flatten(output)[0]
            return left, [tuple(t.shape) if torch.is_tensor(t) else t for t in every]
        finally:
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(buffers[name])
            for name, p in parameters.items():
                p.grad = held[name]


def _differ(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is not other
    if one.shape != other.shape:
        return True
    if not one.is_floating_point():
        return not torch.equal(one, other)
    one, other = one.detach(), other.detach()
    scale = float(one.abs().max()) if one.numel() else 0.0
    most = _ROUNDINGS * torch.finfo(one.dtype).eps * scale
    return not bool(((one - other).abs() <= most).all())
