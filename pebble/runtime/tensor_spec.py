"""What a tensor must look like for a plan to hold, and the sentence where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pebble.errors import PlanMismatch
from pebble.tracing.signature import Slot


def mismatch(planned: str, found: str) -> PlanMismatch:
    """The error that says what was planned, what was found, and what to do.

    Parameters
    ----------
    planned, found : str
        The two halves of one sentence: the first is the same for every call that differs in this.
    """
    return PlanMismatch(
        f"{planned}{found} Plan again with pebble.optimize, or apply the plan with "
        "on_mismatch='eager'.",
        planned=planned,
        found=found,
    )


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must look like: contents are free, everything else is planned."""

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool
    label: str = ""

    @classmethod
    def of(cls, slot: Slot, requires_grad: bool) -> TensorSpec:
        """What a slot of the captured graph was given."""
        return cls.like(slot.node.meta["val"], slot.name, requires_grad)

    @classmethod
    def like(
        cls, tensor: torch.Tensor, name: str, requires_grad: bool, label: str = ""
    ) -> TensorSpec:
        """What a tensor looks like; a label is what sentences call it in place of its name."""
        shape, stride = tuple(tensor.shape), tuple(tensor.stride())
        return cls(name, shape, stride, tensor.dtype, tensor.device, requires_grad, label)

    def check(self, tensor: Any) -> None:
        """Raise `PlanMismatch` with the first difference."""
        if not isinstance(tensor, torch.Tensor):
            self._differs("as a tensor", type(tensor).__name__)
        if tensor.shape != self.shape:
            self._differs(f"with shape {list(self.shape)}", f"{list(tensor.shape)}")
        if tensor.dtype is not self.dtype:
            self._differs(f"as {self.dtype}", f"{tensor.dtype}")
        if tensor.requires_grad is not self.requires_grad:
            self._differs(f"with requires_grad={self.requires_grad}", f"{tensor.requires_grad}")
        if tensor.device != self.device:
            self._differs(f"on {self.device}", f"on {tensor.device}")
        if tensor.stride() != self.stride and not same_layout(
            self.shape, self.stride, tensor.stride()
        ):
            self._differs(f"with strides {self.stride}", f"{tensor.stride()}")

    def _differs(self, planned: str, found: str) -> None:
        raise mismatch(
            f"{self.label or repr(self.name)} was planned {planned}", f"; it is {found} now."
        )


def same_layout(shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two strides address the same elements: those of dimensions of size 1 are free.

    Examples
    --------
    >>> same_layout((4, 1), (1, 4), (1, 1)), same_layout((4, 2), (2, 1), (1, 4))
    (True, False)
    """
    return all(size < 2 or x == y for size, x, y in zip(shape, a, b))
