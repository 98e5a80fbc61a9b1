"""Gradients that are added up over several micro-batches, without a second copy of them all.

A compiled backward returns all gradients at its end, so from the second micro-batch on a whole
copy stands beside those that are there already. A planned backward adds each gradient to the
parameter's as soon as it is made, and lets go of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from pebble.tracing.torch_private.autograd import adds_up, has_hooks, has_node_hooks

Taker = Callable[[torch.Tensor], torch.Tensor | None]


def takers_of(node: Any, *, behind_views: Collection[int] = ()) -> list[Taker]:
    """What becomes of each gradient when the backward of an autograd node has made it.

    Parameters
    ----------
    node : the context of a running autograd function
        Of one whose inputs are differentiated, in order.
    behind_views : collection of int
        Positions of leaves that were handed to it as views of them.

    Returns
    -------
    list of callable
        One returns its gradient where autograd is to receive it; else it adds it to the leaf's own
        gradient and returns None, as autograd would do in the end. Leaves with hooks, on them or on
        the node that adds up their gradient, are left to autograd, and so is
        `torch.autograd.grad`, which must not touch any gradient.
    """
    edges = [edge for edge, _ in node.next_functions]
    for i in behind_views:
        edges[i] = edges[i].next_functions[0][0]
    return [_taker(edge) for edge in edges]


def _taker(edge: Any) -> Taker:
    leaf = getattr(edge, "variable", None)
    if leaf is None or leaf.grad is None or not adds_up(edge):
        return _keep
    if has_hooks(leaf) or has_node_hooks(edge):
        return _keep
    there: torch.Tensor = leaf.grad
    if type(there) is not torch.Tensor or there.layout is not torch.strided or there.requires_grad:
        return _keep

    def add(gradient: torch.Tensor) -> torch.Tensor | None:
        if gradient.dtype is not there.dtype or gradient.shape != there.shape:
            return gradient
        there.add_(gradient)
        return None

    return add


def _keep(gradient: torch.Tensor) -> torch.Tensor | None:
    return gradient
