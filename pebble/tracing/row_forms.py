"""How the rows (tokens) of a wide tensor lie after views, slices and transposes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.operators import UNSAFE_VIEW

aten = torch.ops.aten

SAME_ROWS = frozenset(
    (aten.view.default, UNSAFE_VIEW, aten.reshape.default, aten.detach.default)
    + (aten.alias.default, aten.clone.default)
)
TURNS = frozenset((aten.t.default, aten.permute.default, aten.transpose.int))


@dataclass(frozen=True)
class RowSlice:
    """A slice of positions, as in ``logits[:, :-1]``: `shape` are the row dimensions before."""

    shape: tuple[int, ...]
    dim: int
    start: int
    end: int
    step: int


@dataclass(frozen=True)
class Form:
    """How the rows of a wide tensor lie.

    Attributes
    ----------
    rows : tuple of int
        The tensor's dimensions but the last, which are the classes.
    cuts : tuple of RowSlice
        What was taken of the projection's rows so far.
    gradient : bool
        Whether it is linear in the gradient of the loss.
    turned : bool
        The transpose of such a matrix.
    """

    rows: tuple[int, ...]
    cuts: tuple[RowSlice, ...] = ()
    gradient: bool = False
    turned: bool = False


def reshaped(node: fx.Node, form: Form, classes: int) -> Form | None:
    """The form of a view; None where it mixes rows with classes."""
    shape = tuple(map(int, node.meta["val"].shape))
    rows = 1
    for n in shape[:-1]:
        rows *= n
    if shape[-1] != classes or rows * classes != node.args[0].meta["val"].numel():  # type: ignore[union-attr]
        return None
    return replace(form, rows=shape[:-1])


def sliced(node: fx.Node, form: Form) -> Form | None:
    """The form of a slice of positions; None for a slice of classes or of a gradient."""
    given: tuple[Any, ...] = node.args[1:]
    rest: tuple[Any, ...] = (0, None, None, 1)[len(given) :]
    dim, start, end, step = given + rest
    dims = len(form.rows) + 1
    dim %= dims
    if form.gradient or dim == dims - 1:
        return None
    size = form.rows[dim]
    start, end, step = slice(start, end, step).indices(size)
    if (start, end, step) == (0, size, 1):
        return form
    cut = RowSlice(form.rows, dim, start, end, step)
    return replace(form, rows=tuple(node.meta["val"].shape[:-1]), cuts=(*form.cuts, cut))


def unsliced(node: fx.Node, form: Form) -> Form | None:
    """The backward of a slice undoes the last cut; one that took everything changes nothing."""
    given: tuple[Any, ...] = node.args[1:]
    sizes, dim, start, end, step = given
    rows = tuple(sizes)[:-1]
    dim %= len(rows) + 1
    if not form.gradient or dim == len(rows):
        return None
    start, end, step = slice(start, end, step).indices(rows[dim])
    if (start, end, step) == (0, rows[dim], 1):
        return form
    if not form.cuts or form.cuts[-1] != RowSlice(rows, dim, start, end, step):
        return None
    return replace(form, rows=rows, cuts=form.cuts[:-1])


def is_transpose(node: fx.Node) -> bool:
    """Whether a node that may turn a matrix does so."""
    if node.target is aten.t.default:
        return True
    dims: Any = node.args[1] if node.target is aten.permute.default else node.args[1:]
    return [d % 2 for d in dims] != ([0, 1] if node.target is aten.permute.default else [0, 0])
