"""The part of a joint graph between the hidden states and the loss, where one row is one token.

Operator fission needs to know which nodes treat every row (token) alone: those can run on a few
rows at a time. They are found by what they compute, not by the model's class: a projection, any
row-wise ops on its result (casts, scalings, caps, views, slices of positions), a log-softmax, a
negative log-likelihood, and their backward up to the gradients of the projection's operands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import torch
from torch import fx

from pebble.errors import InvalidArgument
from pebble.tracing.captured import Captured
from pebble.tracing.row_forms import (
    SAME_ROWS,
    TURNS,
    Form,
    RowSlice,
    is_transpose,
    reshaped,
    sliced,
    unsliced,
)
from pebble.tracing.signature import HELD, OutputKind
from pebble.tracing.torch_private.operators import (
    LOG_SOFTMAX,
    LOG_SOFTMAX_BACKWARD,
    TO_COPY,
)

aten = torch.ops.aten

MEAN, SUM = 1, 2  # torch's numbers for the reductions of a loss
_LINEAR = frozenset(
    (aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar, aten.div.Scalar, aten.neg.default)
    + (TO_COPY, aten.add.Tensor, aten.sub.Tensor, aten.tanh_backward.default)
)


class Exit(StrEnum):
    """What leaves the backward of the region."""

    ROWS = "rows"  # a product with the weight: the gradient of the hidden states
    WEIGHT = "weight"  # a product with the hidden states: [classes, width]
    TURNED_WEIGHT = "turned weight"  # the same as [width, classes]
    BIAS = "bias"  # a sum over the rows


@dataclass
class Region:
    """The nodes between the hidden states and the loss, in the order of the graph.

    Attributes
    ----------
    entry : fx.Node
        The projection (mm or addmm).
    softmax, loss, loss_backward : fx.Node
    forms : mapping
        Of every wide node that is computed from the projection.
    cuts : tuple of RowSlice
        From the projection's rows to those of the loss.
    exits : mapping
        The ops that make something narrow of the gradient, and what.
    """

    entry: fx.Node
    softmax: fx.Node
    loss: fx.Node
    loss_backward: fx.Node
    cuts: tuple[RowSlice, ...] = ()
    forms: dict[fx.Node, Form] = field(default_factory=dict)
    exits: dict[fx.Node, Exit] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of the loss (tokens)."""
        return int(self.softmax.meta["val"].shape[0])

    @property
    def classes(self) -> int:
        """Columns of the loss (size of the vocabulary)."""
        return int(self.softmax.meta["val"].shape[1])


def no_chunks(reason: str) -> InvalidArgument:
    """The error that says why the loss stays whole."""
    return InvalidArgument(
        f"The loss of this step cannot be computed in chunks: {reason}. Pass chunked_loss=False."
    )


def find_region(captured: Captured) -> Region:
    """The largest cross entropy of a captured step and everything row-wise around it.

    Raises
    ------
    InvalidArgument
        If there is none that can be split; says what stands in the way.
    """
    found = [n for n in captured.joint.graph.nodes if n.target is aten.nll_loss_forward.default]
    if not found:
        outside = captured.loss is not None
        raise no_chunks(
            "its forward holds no cross entropy over a matrix of tokens by classes"
            + (", which loss= computes outside; let the model do it (labels=)" if outside else "")
        )
    loss = max(found, key=lambda n: n.args[0].meta["val"].numel())
    region = _ends_of(loss)
    _Walk(captured, region).run()
    return region


def _ends_of(loss: fx.Node) -> Region:
    softmax: Any = loss.args[0]
    if softmax.target is not LOG_SOFTMAX or softmax.meta["val"].dim() != 2:
        raise no_chunks(f"the log-probabilities come from {softmax.target}, not from a log-softmax")
    if softmax.args[1] not in (1, -1):
        raise no_chunks("the log-softmax does not run over the last dimension")
    if loss.args[3] not in (MEAN, SUM):
        raise no_chunks("it is not reduced to one number (reduction='none')")
    backwards = [n for n in softmax.users if n.target is aten.nll_loss_backward.default]
    if len(backwards) != 1 or backwards[0].args[3:6] != loss.args[2:5]:
        raise no_chunks("its backward is not that of one negative log-likelihood")
    return Region(_projection(softmax), softmax, loss, backwards[0])


def _projection(softmax: fx.Node) -> fx.Node:
    """The matrix product that makes the logits: up along the first tensor of every op."""
    node: Any = softmax
    while node.op == "call_function":
        if node.target in (aten.mm.default, aten.addmm.default):
            return node  # type: ignore[no-any-return]
        above = [a for a in node.all_input_nodes if _has_rows(a.meta["val"])]
        if not above:
            break
        node = above[0]
    raise no_chunks("its logits do not come from a matrix product of hidden states and a weight")


def _has_rows(made: Any) -> bool:
    """Whether a node makes a matrix, or several tensors of which the first is one (a norm)."""
    first = made[0] if isinstance(made, (tuple, list)) and made else made
    return isinstance(first, torch.Tensor) and first.dim() >= 2


class _Walk:
    """Follows every wide node from the projection on and gives it a form, or says why not."""

    def __init__(self, captured: Captured, region: Region) -> None:
        self.region = region
        self.forms = region.forms
        self.nodes = list(captured.joint.graph.nodes)
        self.shown = {o.node: o for o in captured.outputs if o.kind in HELD}

    def run(self) -> None:
        region = self.region
        begun = False
        for node in self.nodes:
            if node is region.entry:
                begun = True
                self.forms[node] = Form((int(node.meta["val"].shape[0]),))
            elif begun and node is region.loss_backward:
                self.forms[node] = Form((region.rows,), region.cuts, gradient=True)
            elif begun and node.op == "call_function":
                self._visit(node)
        if region.softmax not in self.forms:
            raise no_chunks("its log-softmax is not computed from the projection alone")
        if not region.exits:
            raise no_chunks("no gradient leaves it towards the hidden states or the weight")
        for node, output in self.shown.items():
            if node in self.forms and output.kind is OutputKind.DIFFERENTIABLE:
                raise no_chunks(
                    f"the step is differentiated from output {output.name}, which is as large as "
                    "the logits"
                )

    def _visit(self, node: fx.Node) -> None:
        wide = [a for a in node.all_input_nodes if a in self.forms]
        if not wide or node is self.region.loss:
            return
        kind = self._exit(node, wide)
        if kind is not None:
            self.region.exits[node] = kind
            return
        form = self._form(node, wide)
        if form is None:
            made = node.meta.get("val")
            place = f" of {made.shape}" if isinstance(made, torch.Tensor) else ""
            raise no_chunks(f"{node.target} (node {node.name!r}{place}) also reads the logits")
        self.forms[node] = form
        if node is self.region.softmax:
            self.region.cuts = form.cuts

    def _form(self, node: fx.Node, wide: list[fx.Node]) -> Form | None:
        forms = [self.forms[a] for a in wide]
        first = forms[0]
        if any(form.turned for form in forms) or not isinstance(node.meta.get("val"), torch.Tensor):
            return None
        if node.target in SAME_ROWS:
            return reshaped(node, first, self.region.classes)
        if node.target is aten.slice.Tensor:
            return sliced(node, first)
        if node.target is aten.slice_backward.default:
            return unsliced(node, first)
        if node.target in TURNS:
            turned = first.gradient and len(first.rows) == 1 and is_transpose(node)
            return replace(first, turned=True) if turned else None
        same = all((f.rows, f.cuts) == (first.rows, first.cuts) for f in forms)
        shaped = tuple(node.meta["val"].shape[:-1]) == first.rows
        if not (same and shaped and self._fits(node)):
            return None
        gradient = any(form.gradient for form in forms)
        if node.target is LOG_SOFTMAX:
            return first if node is self.region.softmax else None
        if node.target is LOG_SOFTMAX_BACKWARD:
            own = forms[0].gradient and node.args[2] in (1, -1) and len(first.rows) == 1
            return replace(first, gradient=True) if own else None
        if gradient and not self._is_linear(node):
            return None
        pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
        if pointwise or node.target is TO_COPY:
            return replace(first, gradient=gradient)
        return None

    def _fits(self, node: fx.Node) -> bool:
        """Whether the narrow operands are the same for every row."""
        narrow = [a for a in node.all_input_nodes if a not in self.forms]
        shapes = [tuple(a.meta["val"].shape) for a in narrow]
        return all(len(s) <= 2 and all(n == 1 for n in s[:-1]) for s in shapes)

    def _is_linear(self, node: fx.Node) -> bool:
        """Whether a node is linear in its gradient operand."""
        if node.target not in _LINEAR:
            return False
        given = [isinstance(a, fx.Node) and a in self.forms and self.forms[a].gradient
                 for a in node.args]  # fmt: skip
        if node.target in (aten.add.Tensor, aten.sub.Tensor):
            return given[:2] == [True, True]
        return (given[0] and not any(given[1:])) or (
            node.target is aten.mul.Tensor and given[:2] == [False, True]
        )

    def _exit(self, node: fx.Node, wide: list[fx.Node]) -> Exit | None:
        form = self.forms[wide[0]]
        if not form.gradient or form.cuts or len(wide) > 1:
            return None
        if node.target is aten.mm.default and len(form.rows) == 1:
            if node.args[0] is wide[0]:
                return Exit.WEIGHT if form.turned else Exit.ROWS
            return None if form.turned else Exit.TURNED_WEIGHT
        if node.target is aten.sum.dim_IntList and not form.turned:
            dims: Any = node.args[1]
            over = {d % (len(form.rows) + 1) for d in dims}
            return Exit.BIAS if over == set(range(len(form.rows))) else None
        return None
