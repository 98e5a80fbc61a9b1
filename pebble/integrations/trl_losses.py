"""The losses of TRL's trainers, made from a backbone's hidden states: run as they are, measured.

TRL 1.16 puts a forward on the model that runs the backbone and projects its hidden states tile by
tile (`trl.trainer.utils.add_fused_lm_head`). The backbone is what can be planned.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pebble.integrations.trainer_losses import OutsideLoss, stand_in
from pebble.runtime.follower import run_eagerly
from pebble.tracing.torch_private.fake_tensors import fake_mode_of
from pebble.tracing.torch_private.pytree import tree_leaves

_FUSED = "fused_lm_head"
_KEPT = ("_metrics", "_total_train_tokens")  # what compute_loss writes on its trainer


def backbone_of(model: nn.Module) -> nn.Module | None:
    """The part whose hidden states TRL's fused head reads; None if the model has no such head."""
    inner: Any = model
    if hasattr(model, "get_base_model"):
        inner = inner.get_base_model()
    forward = inner.__dict__.get("forward")
    while forward is not None:
        code = getattr(getattr(forward, "__func__", forward), "__code__", None)
        if code is not None and _FUSED in code.co_varnames:
            found = inner.base_model
            return found if found is not inner else None
        forward = getattr(forward, "__wrapped__", None)
    return None


def shared_parameters(model: nn.Module, part: nn.Module) -> list[nn.Parameter]:
    """Trained parameters of a part that the rest of the model uses too: tied embeddings, say."""
    inside = {id(module) for module in part.modules()}
    others = [m for m in model.modules() if id(m) not in inside]
    used = {id(p) for m in others for p in m.parameters(recurse=False)}
    return [p for p in part.parameters() if p.requires_grad and id(p) in used]


def awaits_head(trainer: Any) -> bool:
    """Whether this is a trainer of TRL whose model has not been given its fused head yet."""
    kinds = [kind.__module__ for kind in type(trainer).__mro__]
    return any(kind.startswith("trl.") for kind in kinds) and backbone_of(trainer.model) is None


class BackboneLoss(OutsideLoss):
    """What a TRL trainer makes of the outputs of its model's backbone.

    Parameters
    ----------
    trainer : trl.SFTTrainer or trl.DPOTrainer
    backbone : nn.Module
    """

    def __init__(self, trainer: Any, backbone: nn.Module | None = None) -> None:
        super().__init__(trainer)
        self.backbone = backbone

    @property
    def may_run(self) -> bool:
        """Whether the loss may be run once more: only as TRL wrote it."""
        trainer = self.trainer
        if trainer is None or self.over_another or trainer.compute_loss_func is not None:
            return False
        found = [getattr(type(trainer), name, None) for name in ("compute_loss", "training_step")]
        return all(getattr(f, "__module__", "").startswith("trl.trainer.") for f in found)

    def __call__(self, outputs: Any) -> Any:
        """The loss of the backbone's outputs; passes without gradients run as in the loop."""
        if not self.may_run or not self.is_running or self.backbone is None:
            return stand_in(outputs)
        if fake_mode_of(*tree_leaves(outputs)) is not None:  # asked what it reads: every output
            return stand_in(outputs)
        trainer = self.trainer
        twin = copy.copy(trainer)
        for name in _KEPT:
            if hasattr(trainer, name):
                setattr(twin, name, copy.deepcopy(getattr(trainer, name)))
        model, inputs = trainer.model, dict(self.inputs)
        with _answering(self.backbone, outputs), _gradients_aside(model), _entered_again(model):
            return type(trainer).compute_loss(twin, model, inputs, num_items_in_batch=self.items)


@contextlib.contextmanager
def _entered_again(model: nn.Module) -> Iterator[None]:
    """Within it the model may be called although a call of it is running.

    An autocast around its forward (accelerate's) is one object, which remembers the state that it
    was entered in; entered within itself it would leave autocast on for good.
    """
    before = [(one, dict(vars(one))) for one in _autocasts(model.__dict__.get("forward"))]
    try:
        yield
    finally:
        for one, state in before:
            vars(one).update(state)


def _autocasts(forward: Any) -> list[torch.autocast]:
    """Those that a forward was wrapped in."""
    found = []
    while forward is not None:
        function = getattr(forward, "__func__", forward)
        cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        found += [held for held in cells if isinstance(held, torch.autocast)]
        forward = getattr(function, "__wrapped__", None)
    return found


@contextlib.contextmanager
def _answering(backbone: nn.Module, outputs: Any) -> Iterator[None]:
    """Within it the backbone gives these outputs wherever gradients are on."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        return outputs if torch.is_grad_enabled() else run_eagerly(backbone, args, kwargs)

    before = backbone.__dict__.get("forward")
    backbone.__dict__["forward"] = answer
    try:
        yield
    finally:
        del backbone.__dict__["forward"]
        if before is not None:
            backbone.__dict__["forward"] = before


@contextlib.contextmanager
def _gradients_aside(model: nn.Module) -> Iterator[None]:
    """Within it a loss reads parameters with the same memory, whose gradients are thrown away."""
    found = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
    twins = {id(p): nn.Parameter(p.detach()) for _, _, p in found}
    try:
        for module, name, parameter in found:
            setattr(module, name, twins[id(parameter)])
        yield
    finally:
        for module, name, parameter in found:
            setattr(module, name, parameter)
