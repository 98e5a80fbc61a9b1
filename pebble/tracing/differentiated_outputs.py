"""Which outputs of a forward are differentiated: those that the caller may build a loss from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pebble.errors import CaptureError, InvalidArgument
from pebble.options import Differentiate
from pebble.tracing.captured import Loss

_KEY = re.compile(r"\['([^'\]]*)'\]")


@dataclass(frozen=True)
class TracedTensors:
    """The output of a traced forward and its tensors.

    Attributes
    ----------
    output : object
    tensors : sequence of Tensor
        Each once.
    names : sequence of str
        Their paths in the output.
    """

    output: Any
    tensors: Sequence[torch.Tensor]
    names: Sequence[str]

    @property
    def given(self) -> frozenset[int]:
        """Positions of the tensors that need a gradient."""
        return frozenset(i for i, tensor in enumerate(self.tensors) if tensor.requires_grad)

    @property
    def own_loss(self) -> int | None:
        """Position of the loss that the model computes itself, where it names one."""
        own = own_loss(self.output)
        found = (i for i, tensor in enumerate(self.tensors) if tensor is own)
        return next((i for i in found if self.tensors[i].requires_grad), None)


def own_loss(output: Any) -> Any:
    """What a model's output calls its loss: ``.loss`` or ``["loss"]``; None without one."""
    own = getattr(output, "loss", None)
    if own is None and isinstance(output, Mapping):
        own = output.get("loss")
    return own


def roots_of(
    traced: TracedTensors, loss: Loss | None, asked: Differentiate, *, loss_only: bool
) -> frozenset[int]:
    """Positions of the outputs that are differentiated.

    Parameters
    ----------
    traced : TracedTensors
    loss : callable or None
    asked : "loss", "all", sequence of str or None
        None: what the loss reads, or the model's own loss; without either, every output that
        needs a gradient.
    loss_only : bool
        Nothing but the loss is handed over: without a named one, the first that needs a gradient.

    Raises
    ------
    CaptureError
        If nothing needs a gradient, or the loss reads nothing that does.
    InvalidArgument
        If there is no output of a name that was asked for, or it needs no gradient.
    """
    given = traced.given
    if loss is None and not given:
        raise CaptureError(
            "Nothing in the model's output depends on a parameter or input that requires a "
            "gradient. Unfreeze a parameter, return the loss without detaching it, or pass labels "
            "to a model that computes its own loss."
        )
    of_loss = _of_loss(traced, loss)
    if asked == "all":
        return given
    if asked == "loss" and not of_loss:
        raise InvalidArgument(
            "differentiate='loss' was asked for, but this model's output names no loss (as .loss "
            f"or ['loss']) and no loss= was passed; its outputs are {_listed(traced)}."
        )
    if asked is None or asked == "loss":
        alone = frozenset({min(given)}) if loss_only and given else given
        return of_loss or alone
    return of_loss.union(*(_named(traced, name) for name in asked))


def _of_loss(traced: TracedTensors, loss: Loss | None) -> frozenset[int]:
    if loss is not None:
        return _read_by(loss, traced)
    own = traced.own_loss
    return frozenset() if own is None else frozenset({own})


def _named(traced: TracedTensors, name: str) -> frozenset[int]:
    """The outputs of a name, or below it."""
    wanted = short_name(name)
    found = [i for i, path in enumerate(traced.names) if _is_at(short_name(path), wanted)]
    if not found:
        raise InvalidArgument(
            f"differentiate names {name!r}, but the outputs of this model are {_listed(traced)}."
        )
    needing = traced.given.intersection(found)
    if not needing:
        able = ", ".join(short_name(traced.names[i]) for i in sorted(traced.given))
        raise InvalidArgument(
            f"differentiate names {name!r}, which needs no gradient; those that do are {able}."
        )
    return needing


def short_name(path: str) -> str:
    """The path of an output as people write it.

    Examples
    --------
    >>> short_name("['logits']"), short_name(".states['deep'][1]"), short_name("[0]")
    ('logits', 'states.deep[1]', '[0]')
    """
    return _KEY.sub(r".\1", path).removeprefix(".")


def _is_at(path: str, name: str) -> bool:
    return path == name or path.startswith((f"{name}.", f"{name}["))


def _listed(traced: TracedTensors) -> str:
    return ", ".join(short_name(name) for name in traced.names)


def _read_by(loss: Loss, traced: TracedTensors) -> frozenset[int]:
    """The outputs that a loss function reads."""
    given = sorted(traced.given)
    try:
        value = loss(traced.output)
    except Exception as error:
        if "data" in str(error).lower() and "depend" in str(error).lower():
            return frozenset(given)  # it looks at numbers, which tells nothing of what it needs
        raise CaptureError(
            f"The loss fails on this model's output: {type(error).__name__}: {error}. Pass a "
            "callable that takes exactly what the model returns and gives a scalar tensor."
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = f"shape {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
        raise CaptureError(f"The loss gives {got}, not a scalar tensor; add .mean() or .sum().")
    grads: Sequence[Any] = ()
    if value.requires_grad and given:
        tensors = [traced.tensors[i] for i in given]
        grads = torch.autograd.grad(value, tensors, allow_unused=True)
    roots = frozenset(i for i, grad in zip(given, grads) if grad is not None)
    if not roots:
        raise CaptureError(
            "The loss depends on no output of the model that has a gradient. Check that it uses "
            "the model's output and detaches nothing."
        )
    return roots
