"""What a Trainer's loop does around the model, and the plan that follows from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.integrations.loop_memory import SCALARS, bytes_on, outside_bytes
from pebble.integrations.trainer_losses import OutsideLoss, takes_own_loss
from pebble.integrations.trl_losses import BackboneLoss, backbone_of, shared_parameters
from pebble.plan.budgeted import budgeted
from pebble.plan.replanning import Replanner
from pebble.runtime.follower import Following, follower_of
from pebble.runtime.planned_module import PlannedModule, plan_in_place, unplan

logger = logging.getLogger("pebble")

_OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adafactor": "adafactor",
    "sgd": "sgd",
    "adamw_bnb_8bit": "adamw8bit",
    "adamw_8bit": "adamw8bit",
    "paged_adamw_8bit": "paged_adamw8bit",
    "lion_32bit": "lion",
}
"""What Trainer calls an optimizer -> its name here."""
_LOOPS_OWN = ("optimizer", "loss", "outputs", "accumulation_steps")


@dataclass(frozen=True)
class Facts:
    """What a plan depends on in a trainer.

    Attributes
    ----------
    optimizer : str
        Or the nearest that is known.
    accumulation_steps : int
    own_loss : bool
        Whether the loop reads nothing but the model's own loss.
    """

    optimizer: str
    accumulation_steps: int
    own_loss: bool

    @classmethod
    def of(cls, trainer: Any) -> Facts:
        """Those of a trainer.

        Raises
        ------
        InvalidArgument
            If it trains in a way that no plan can be made for.
        """
        args = trainer.args
        for name, stands_against in _refused(args):
            if stands_against:
                raise InvalidArgument(f"This Trainer cannot follow a plan: {name}.")
        asked = str(getattr(args.optim, "value", args.optim))
        return cls(
            _OPTIMIZERS.get(asked, "adamw"),
            args.gradient_accumulation_steps,
            takes_own_loss(trainer),
        )


def _refused(args: Any) -> tuple[tuple[str, Any], ...]:
    return (
        (
            f"it splits each batch over {args.n_gpu} devices (DataParallel). Start one process a "
            "device with torchrun, or make one device visible",
            args.n_gpu > 1,
        ),
        (
            "torch_compile is on, which would compile the model around the plan. Set "
            "torch_compile=False",
            args.torch_compile,
        ),
        (
            "DeepSpeed shards the model's state. Train without deepspeed=",
            getattr(args, "deepspeed", None),
        ),
        ("FSDP shards the model's parameters. Train without fsdp=", getattr(args, "fsdp", None)),
        (
            "activation_offloading moves saved tensors to the host, which no plan knows of. Leave "
            "it out",
            getattr(args, "activation_offloading", None),
        ),
        (
            "NEFTune adds its noise in a hook, which no plan runs. Leave neftune_noise_alpha out",
            getattr(args, "neftune_noise_alpha", None),
        ),
    )


class TrainerLoop:
    """A trainer whose model follows plans.

    Parameters
    ----------
    trainer : transformers.Trainer
    options : mapping
        Of `pebble.budgeted`.

    Raises
    ------
    InvalidArgument
    """

    def __init__(self, trainer: Any, options: Mapping[str, Any]) -> None:
        for name in _LOOPS_OWN:
            if name in options:
                raise InvalidArgument(f"budgeted reads {name} from the Trainer; leave it out.")
        self.trainer = trainer
        self.options = dict(options)
        self.facts: Facts | None = None
        self.part: nn.Module = trainer.model
        self.batch = OutsideLoss(trainer)
        self.following: Following | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self.waiting_bytes = 0
        self._fetch: Any = None
        self._shared: list[tuple[nn.Parameter, Any]] = []

    def begin(self) -> None:
        """Plan the trainer's model in place, unless it follows the right plans already."""
        trainer, facts = self.trainer, Facts.of(self.trainer)
        if facts == self.facts and self._is_planned():
            self._stop_checkpointing()
            return
        self.leave()
        self._find_part()
        # without a config its output may be a tuple, which names no loss
        own = facts.own_loss and hasattr(trainer.model, "config")
        planned = budgeted(
            self.part,
            **{"level": "graph"} | self.options,
            optimizer=facts.optimizer,
            accumulation_steps=facts.accumulation_steps,
            outputs="loss" if own else "all",
            loss=None if own else self.batch,
        )
        following = follower_of(planned)
        planner = getattr(following, "planner", None)
        assert isinstance(planner, Replanner)
        planner.held_bytes = self._held_bytes
        plan_in_place(self.part, following)
        # Two gradients come to them, whose sum is added to what is there: autograd's to do, and a
        # planned step leaves a parameter with a hook to it.
        shared = shared_parameters(trainer.model, self.part)
        handles = [p.register_hook(_nothing) for p in shared]  # type: ignore[no-untyped-call, unused-ignore]
        self._shared = list(zip(shared, handles))
        self._fetch = trainer.get_batch_samples
        trainer.get_batch_samples = self._get_batch_samples
        self.batch.enter()
        self.facts, self.following, self.optimizer = facts, following, None
        self._stop_checkpointing()
        self._tell(facts)

    def leave(self) -> None:
        """Make trainer and model what they were."""
        unplan(self.part)
        for _, hook in self._shared:
            hook.remove()
        self._shared = []
        self.batch.leave()
        if self._fetch is not None:
            del self.trainer.get_batch_samples
            self._fetch = None

    def take_optimizer(self, optimizer: Any) -> None:
        """Plans to come count the state and the temporaries of the optimizer that was made."""
        own = getattr(optimizer, "optimizer", optimizer)
        if not isinstance(own, torch.optim.Optimizer) or own is self.optimizer:
            return
        if not type(own).__module__.startswith("torch.optim"):
            return
        planner = getattr(self.following, "planner", None)
        assert isinstance(planner, Replanner)
        step = replace(planner.asked.step, optimizer=own)
        planner.asked = replace(planner.asked, step=step)
        self.optimizer = own

    def figures(self) -> dict[str, float]:
        """How the plans went so far, for the trainer's log."""
        if self.following is None:
            return {}
        status = self.following.status("")
        peak = status.measured_peak_bytes or status.predicted_peak_bytes
        found = {
            "pebble_planned_calls": status.planned_calls,
            "pebble_unplanned_calls": status.unplanned_calls,
            "pebble_planning_seconds": round(status.planning_seconds, 1),
        }
        return found if peak is None else {**found, "pebble_peak_gb": round(peak / 1e9, 6)}

    # -- pieces ----------------------------------------------------------------------------------

    def _find_part(self) -> None:
        """The model, or what of it is up to the hidden states that TRL's head reads."""
        trainer, backbone = self.trainer, backbone_of(self.trainer.model)
        self.part = trainer.model if backbone is None else backbone
        self.batch = OutsideLoss(trainer) if backbone is None else BackboneLoss(trainer, backbone)

    def _is_planned(self) -> bool:
        model = self.trainer.model
        right = self.part is (backbone_of(model) or model)
        planned = isinstance(self.part, PlannedModule)
        return right and planned and follower_of(self.part) is self.following

    def _get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The batches of one step of the optimizer: all are on the device at once."""
        found = self._fetch(*args, **kwargs)
        sizes = [bytes_on(batch, self.trainer.args.device) for batch in found[0]]
        # the loader holds the batch after them as well
        self.waiting_bytes = max(self.waiting_bytes, sum(sizes) + max(sizes, default=0))
        return found

    def _held_bytes(self) -> int:
        """Of all that is on the device and not in the planned part: models, waiting batches."""
        trainer, device = self.trainer, self.trainer.args.device
        waiting = self.waiting_bytes - bytes_on(self.batch.inputs, device)
        models = [m for m in (trainer.model, getattr(trainer, "ref_model", None)) if m is not None]
        assert self.facts is not None
        optimizer = self.optimizer or self.facts.optimizer
        outside = outside_bytes(models, self.part, [optimizer], device)
        copies = 1 if self.facts.accumulation_steps == 1 else 2
        shared = copies * sum(p.nbytes for p, _ in self._shared)
        return max(waiting, 0) + SCALARS + outside + shared

    def _stop_checkpointing(self) -> None:
        """Gradient checkpointing off: what is recomputed is planned."""
        trainer, stopped = self.trainer, False
        for name in ("activation_checkpointing", "gradient_checkpointing"):
            if getattr(trainer.args, name, None):
                setattr(trainer.args, name, False)
                stopped = True
        for module in trainer.model.modules():
            if getattr(module, "gradient_checkpointing", False) is True:
                module.gradient_checkpointing = False
                stopped = True
            if getattr(module, "_require_grads_hooks", None) or hasattr(
                module, "_require_grads_hook"
            ):
                module.disable_input_require_grads()
                stopped = True
        if stopped:
            logger.info("Gradient checkpointing is off: pebble decides what is recomputed.")

    def _tell(self, facts: Facts) -> None:
        asked = str(getattr(self.trainer.args.optim, "value", self.trainer.args.optim))
        if asked not in _OPTIMIZERS and self.trainer.optimizer is None:
            logger.info("The optimizer %s is counted as AdamW until it is there.", asked)
        if not facts.own_loss:
            logger.info(
                "The loss of this Trainer runs outside of the plan; its bytes are %s.",
                "measured" if self.batch.may_run else "estimated from the model's outputs",
            )


def _nothing(gradient: torch.Tensor) -> None:
    """A hook that only says that somebody looks."""
