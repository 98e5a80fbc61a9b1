"""Gradients that are added up over several micro-batches, without a second copy of them all.

A compiled backward returns all gradients at its end, so from the second micro-batch on a whole
copy stands beside those that are there already. A planned backward adds each gradient to the
parameter's as soon as it is made, and lets go of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from pebble.errors import InvalidArgument
from pebble.graph import Graph
from pebble.tracing.torch_private.autograd import adds_up, has_hooks

if TYPE_CHECKING:
    from pebble.tracing.captured import Captured

Taker = Callable[[torch.Tensor], torch.Tensor | None]


def accumulated(captured: Captured) -> Captured:
    """The captured step as it runs from the second micro-batch on.

    Its gradients are not pinned: each one ends with its last reader, because it is added to the
    gradient that is there. Whoever counts bytes has to count those that are there as resident.
    """
    if captured.accumulates:
        return captured
    graph = captured.graph
    gradients = {captured.value_of[g] for g in captured.gradients.values() if g is not None}
    held = {captured.value_of[output.node] for output in captured.outputs}
    values = [
        replace(value, pinned=value.pinned and (i in held or i not in gradients))
        for i, value in enumerate(graph.values)
    ]
    loose = Graph(graph.ops, values, name=graph.name, boundary=graph.boundary)
    return replace(captured, graph=loose, accumulates=True)


def check_accumulation(steps: int) -> int:
    """The number of micro-batches a step.

    Raises
    ------
    InvalidArgument
        Unless it is a positive integer.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InvalidArgument(
            f"accumulation_steps is {steps!r}; pass the number of micro-batches of a step, from 1."
        )
    return steps


def takers_of(node: Any) -> list[Taker]:
    """What becomes of each gradient when the backward of an autograd node has made it.

    Parameters
    ----------
    node : the context of a running autograd function
        Of one whose inputs are differentiated, in order.

    Returns
    -------
    list of callable
        `_keep` where autograd is to receive the gradient; else one that adds it to the leaf's own
        gradient and returns None, as autograd would do in the end. Leaves with hooks are left to
        autograd, and so is `torch.autograd.grad`, which must not touch any gradient.
    """
    return [_taker(edge) for edge, _ in node.next_functions]


def _taker(edge: Any) -> Taker:
    leaf = getattr(edge, "variable", None)
    if leaf is None or leaf.grad is None or has_hooks(leaf) or not adds_up(edge):
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
