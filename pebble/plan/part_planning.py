"""Plans for what is called inside a planned module, past its forward, within the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pebble.measure.optimizers import Weight, optimizer_memory
from pebble.plan.replanning import Asked, Finder, Replanner
from pebble.plan.step_search import find_within
from pebble.runtime.follower import Follower
from pebble.runtime.planner import Planned
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private.storages import storage_bytes


class PlansParts:
    """Gives each part of a planned module what plans its calls.

    Parameters
    ----------
    asked : callable
        How the whole module is planned, whose budget is for the parts as well.
    input_bytes : int
        Inputs of the whole module, which are there while a part of it runs.
    find : callable
    """

    def __init__(
        self, asked: Callable[[], Asked], input_bytes: int = 0, find: Finder = find_within
    ) -> None:
        self.asked = asked
        self.input_bytes = input_bytes
        self.find = find

    def __call__(self, owner: nn.Module, part: nn.Module) -> PartReplanner:
        """What plans the calls of a part of a module."""
        whole = self.asked()
        step = whole.step
        held = rest_bytes(owner, part, step.optimizer)
        # what becomes of its outputs is the loop's affair, and the optimizer is the whole module's
        own = replace(step, optimizer=None, loss=None, outputs="all", chunks=0, differentiate=None)
        search = replace(whole.search, chunked_loss=False)
        asked = replace(whole, step=own, search=search, room_for_loss=True, background=False)
        return PartReplanner(Replanner(asked, None, self.find), held, self.input_bytes)


class PartReplanner:
    """Plans the calls of a part beside what the rest of the module holds.

    Parameters
    ----------
    replanner : Replanner
    rest_bytes, input_bytes : int
        What the rest of the module holds, and the inputs of the whole.
    """

    def __init__(self, replanner: Replanner, rest_bytes: int, input_bytes: int) -> None:
        self.replanner = replanner
        self.rest_bytes = rest_bytes
        self.input_bytes = input_bytes
        self.beside_bytes = 0  # parts are not padded

    def has_open_trace(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> bool:
        """As of the replanner."""
        return self.replanner.has_open_trace(model, args, kwargs)

    def count_gradients(self, counted: bool) -> bool:
        """As of the replanner."""
        return self.replanner.count_gradients(counted)

    def better(self, member: Follower, model: nn.Module) -> Planned | None:
        """As of the replanner."""
        return self.replanner.better(member, model)

    def __call__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Planned:
        """A plan for a call of the part."""
        given = Inputs(args, dict(kwargs)).tensors()
        derived = any(t.grad_fn is not None for t in given)
        # a batch is the whole module's input itself; what was made of one stands beside it
        beside = self.input_bytes if derived else self.input_bytes - storage_bytes(given)
        held = self.rest_bytes + max(beside, 0)
        self.replanner.held_bytes = lambda: held
        return self.replanner(model, args, kwargs)


def rest_bytes(
    owner: nn.Module, part: nn.Module, optimizer: str | torch.optim.Optimizer | None
) -> int:
    """What stands beside a step of a part of a module.

    Parameters, buffers and gradients outside the part, and the optimizer's state of all.
    """
    everything = storage_bytes([*owner.parameters(), *owner.buffers()])
    own = storage_bytes([*part.parameters(), *part.buffers()])
    mine = {id(p) for p in part.parameters()}
    trained = [p for p in owner.parameters() if p.requires_grad]
    gradients = sum(p.nbytes for p in trained if id(p) not in mine)
    weights = [Weight(tuple(p.shape), p.dtype, tuple(p.stride())) for p in trained]
    device = str(trained[0].device) if trained else "cpu"
    state = optimizer_memory(optimizer, weights, device=device).state
    return everything - own + gradients + state
