"""Scalars that kernels hand over in the storage of a whole tensor, and what is done about it."""

from __future__ import annotations

import torch
from torch import fx


def reduces_to_scalar(node: fx.Node) -> bool:
    """Whether a node makes a scalar of more than a scalar."""
    made = node.meta.get("val")
    if not isinstance(made, torch.Tensor) or made.dim() or not node.all_input_nodes:
        return False
    read = [arg.meta.get("val") for arg in node.all_input_nodes]
    return made.untyped_storage().nbytes() == made.element_size() and any(
        isinstance(t, torch.Tensor) and t.numel() > 1 for t in read
    )


def shrink(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a storage of its own size.

    Some reductions (mse_loss, smooth_l1_loss, binary_cross_entropy) hand over a scalar in the
    storage of their unreduced result, which would live as long as the loss does.
    """
    if tensor.untyped_storage().nbytes() > tensor.nbytes:
        return tensor.clone()
    return tensor
