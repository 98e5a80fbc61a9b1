"""The order in which eager's backward makes gradients, for who listens to it.

DistributedDataParallel puts gradients into buckets in the order in which they arrive. Those of a
planned step arrive together, and autograd then hands them on in an order of its own: other buckets,
and other collectives. So they enter the step through views that are made in the right order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pebble.tracing.captured import Captured
from pebble.tracing.signature import Slot


def gradient_order(captured: Captured, slots: Sequence[Slot]) -> list[int]:
    """Positions among the slots in the order in which eager's backward makes their gradients.

    Autograd's numbers of the forward's ops, from the last on; what one op gives, as traced.
    """
    place = {node: i for i, node in enumerate(captured.joint.graph.nodes)}

    def turn(number: int) -> tuple[int, int]:
        made = captured.gradients.get(slots[number].node)
        if made is None:
            return 1, 0
        return -int(made.meta.get("seq_nr", -1)), place.get(made, 0)

    return sorted(range(len(slots)), key=turn)


def in_turn(
    tensors: Sequence[torch.Tensor], order: Sequence[int]
) -> tuple[list[torch.Tensor], list[int]]:
    """The tensors, trained leaves as views of them, and where those are.

    Autograd ends with the view that is made first.
    """
    views, leaves = list(tensors), [t.is_leaf and t.requires_grad for t in tensors]
    for i in reversed(order):
        if leaves[i]:
            views[i] = tensors[i].view_as(tensors[i])
    return views, [i for i, leaf in enumerate(leaves) if leaf]
