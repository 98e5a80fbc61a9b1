"""The loss that a Trainer computes on its model's outputs: called as it is, and measured."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from pebble.tracing.plannable import plain
from pebble.tracing.torch_private.pytree import tree_leaves, tree_map


def takes_own_loss(trainer: Any) -> bool:
    """Whether the loop reads nothing of the model's outputs but the model's own loss."""
    return (
        _is_trainers_own(trainer)
        and getattr(trainer, "label_smoother", None) is None
        and getattr(trainer, "compute_loss_func", None) is None
    )


def _is_trainers_own(trainer: Any) -> bool:
    """Whether `compute_loss` and what calls it are as transformers wrote them."""
    found = [getattr(type(trainer), name, None) for name in ("compute_loss", "training_step")]
    placed = [vars(trainer).get(name) for name in ("compute_loss", "training_step")]
    ours = [getattr(f, "__self__", None) for f in placed if f is not None]
    return all(getattr(f, "__module__", None) == "transformers.trainer" for f in found) and all(
        isinstance(own, OutsideLoss) and not own.over_another for own in ours
    )


class OutsideLoss:
    """Stands around a trainer's `compute_loss`, and is the loss of its model's outputs.

    As `compute_loss` it hands everything on, the number of items as a tensor: another number needs
    no other plan. As a function of the outputs it is what `compute_loss` makes of them with the
    batch of the call that is running, so that its bytes can be measured.

    Parameters
    ----------
    trainer : transformers.Trainer

    Attributes
    ----------
    over_another : bool
        Whether it stands on one that somebody has put on the trainer.
    """

    __qualname__ = "compute_loss"

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.inputs: dict[str, Any] = {}
        self.items: Any = None
        self._own: Any = None
        self.over_another = False

    @property
    def may_run(self) -> bool:
        """Whether the loss may be run once more: somebody's own may count its calls."""
        return self.trainer is not None and _is_trainers_own(self.trainer)

    @property
    def is_running(self) -> bool:
        """Whether the trainer is computing the loss of a batch."""
        return self._own is not None and bool(self.inputs)

    def enter(self) -> None:
        """Take the place of the trainer's `compute_loss`."""
        self._own, self.over_another = (
            self.trainer.compute_loss,
            "compute_loss" in vars(self.trainer),
        )
        self.trainer.compute_loss = self.compute_loss

    def leave(self) -> None:
        """Give it back."""
        if self._own is not None:
            del self.trainer.compute_loss
            if self.over_another:
                self.trainer.compute_loss = self._own
            self._own = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own, told of the batch."""
        items = kwargs.get("num_items_in_batch")
        if isinstance(items, (int, float)) and not isinstance(items, bool):
            dtype = torch.int64 if isinstance(items, int) else torch.float32
            items = torch.tensor(items, dtype=dtype, device=self.trainer.args.device)
            kwargs["num_items_in_batch"] = items
        self.inputs, self.items = dict(inputs), items
        try:
            return self._own(model, inputs, *args, **kwargs)
        finally:
            self.inputs, self.items = {}, None

    def __call__(self, outputs: Any) -> Any:
        """The loss of the model's outputs."""
        if not self.may_run or not self.is_running:
            return stand_in(outputs)
        if getattr(self.trainer.accelerator, "native_amp", False):
            outputs = tree_map(_full_precision, outputs)
        inputs, items = dict(self.inputs), self.items
        return self._own(_answering(self.trainer.model, outputs), inputs, num_items_in_batch=items)

    def __reduce__(self) -> Any:
        """Saved with a model, it is without the trainer."""
        return type(self), (None,)

    def __deepcopy__(self, memo: dict[int, Any]) -> OutsideLoss:
        return self


def stand_in(outputs: Any) -> torch.Tensor:
    """A loss that holds about as much as most: full-precision log-probabilities of every output."""
    total: Any = 0.0
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
            full = leaf.float()
            total = total + (full if full.dim() == 0 else full.log_softmax(-1).square().mean())
    loss: torch.Tensor = total
    return loss


def _answering(model: nn.Module, outputs: Any) -> nn.Module:
    """What passes for a model, but always gives the same outputs."""
    model = plain(model)
    twin: nn.Module = object.__new__(type(model))
    hooks: dict[str, Any] = {
        name: OrderedDict() for name in ("_forward_hooks", "_forward_pre_hooks")
    }
    twin.__dict__.update(model.__dict__ | hooks | {"forward": lambda *_, **__: outputs})
    return twin


def _full_precision(leaf: Any) -> Any:
    """As accelerate hands outputs over after a forward in mixed precision."""
    low = (torch.float16, torch.bfloat16)
    return leaf.float() if isinstance(leaf, torch.Tensor) and leaf.dtype in low else leaf
