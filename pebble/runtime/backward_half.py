"""The backward half of a planned step, for whichever outputs got a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from pebble.runtime.boxed_code import Boxed, compile_boxed
from pebble.runtime.gradient_takers import Taker
from pebble.runtime.partial_backward import without_tangents
from pebble.runtime.tensor_spec import same_layout
from pebble.tracing.signature import Slot


class BackwardHalf:
    """Runs a backward half; what only outputs without a gradient reach gets none, as in eager.

    Parameters
    ----------
    half : fx.GraphModule
        Takes what was saved, then the tangents.
    tangents : sequence of Slot
    """

    def __init__(self, half: fx.GraphModule, tangents: Sequence[Slot]) -> None:
        self.half = half
        self.layouts = [_TangentLayout(slot.node.meta["val"]) for slot in tangents]
        self._compiled: dict[tuple[int, ...], Boxed] = {(): compile_boxed(half)}

    def __call__(
        self,
        tape: list[torch.Tensor],
        tangents: Sequence[torch.Tensor | None],
        takers: Sequence[Taker],
    ) -> tuple[Any, ...]:
        """The gradients; the tape is emptied."""
        missing = tuple(i for i, tangent in enumerate(tangents) if tangent is None)
        if missing not in self._compiled:
            partial = without_tangents(self.half, len(self.layouts), missing)
            self._compiled[missing] = compile_boxed(partial)
        pairs = zip(self.layouts, tangents)
        # held until the end, as a plan counts them: autograd holds those that fit as they are
        given = [layout.fit(tangent) for layout, tangent in pairs if tangent is not None]
        tape += given
        return self._compiled[missing](tape, takers)


class _TangentLayout:
    """Shape, strides and dtype that the backward half expects of a tangent."""

    def __init__(self, example: torch.Tensor) -> None:
        self.shape = tuple(example.shape)
        self.stride = example.stride()
        self.dtype = example.dtype
        self.device = example.device

    def fit(self, tangent: torch.Tensor) -> torch.Tensor:
        """The tangent in this layout."""
        if same_layout(self.shape, self.stride, tangent.stride()):
            return tangent
        dense = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)
        return dense.copy_(tangent)
