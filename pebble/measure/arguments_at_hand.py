"""Arguments for ops that run alone beside a training step: its own tensors, each storage once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from pebble.tracing.captured import Captured


class TensorsAtHand:
    """The tensors of a step that ops may read as they are, so that no second copy is made of them.

    Parameters
    ----------
    captured : Captured
    tensors : mapping
        One a slot; see `pebble.measure.slot_tensors`.
    """

    def __init__(self, captured: Captured, tensors: Mapping[fx.Node, torch.Tensor]) -> None:
        self.value_of = captured.value_of
        self.sizes = [value.size for value in captured.graph.values]
        self.slots = {captured.value_of[node]: (node, tensor) for node, tensor in tensors.items()}

    def tensor(self, node: fx.Node) -> torch.Tensor | None:
        """A slot's own tensor or a view of it; None where a node stands for something else."""
        like = node.meta.get("val")
        slot = self.slots.get(self.value_of.get(node, -1))
        if slot is None or not isinstance(like, torch.Tensor):
            return None
        first, tensor = slot
        traced = first.meta["val"]
        if tensor.dtype is not like.dtype or tensor.stride() != traced.stride():
            return None
        start = tensor.storage_offset() + int(like.storage_offset() - traced.storage_offset())
        reach = sum((size - 1) * stride for size, stride in zip(like.shape, like.stride()))
        ends = (start + reach + 1) * tensor.itemsize if like.numel() else 0
        if start < 0 or ends > tensor.untyped_storage().nbytes():
            return None
        return tensor.as_strided(like.shape, like.stride(), start)

    def elements(self, node: fx.Node) -> int:
        """Of the storage that a node's value has; 0 where it is none of the step's values."""
        value = self.value_of.get(node)
        return 0 if value is None else self.sizes[value] // int(node.meta["val"].itemsize)
