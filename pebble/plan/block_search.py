"""Plans for the blocks of a sharded model, each by itself and all within one budget."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from pebble.budget import Resident
from pebble.deadline import Deadline
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.formatting import gigabytes
from pebble.measure.allocator import trace_memory
from pebble.measure.shard_memory import shard_memory
from pebble.measure.step import Step, trace
from pebble.options import StepOptions
from pebble.plan.block_options import BlockOption, block_options, chain_peak, choose
from pebble.ranks import Ranks
from pebble.runtime.follower import Follower
from pebble.runtime.module_bench import Blocks, ModuleBench
from pebble.runtime.planned_module import plan_in_place, unplan
from pebble.runtime.promise import Promise
from pebble.runtime.step_check import StepCheck
from pebble.schedule import Schedule
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private.pytree import tree_map_only
from pebble.tracing.training_mode import training_mode
from pebble.verdict import Verdict

SHARDED = Ranks(sharded=True)
Choice = dict[str, BlockOption]
_LEAST_SECONDS = 0.5
"""Of search for a block, where tracing took all of the time."""
_ROUNDS = 8
"""Choices that are run, at most."""


@dataclass(frozen=True)
class BlocksPlan:
    """Plans for the blocks of a model that is sharded over ranks.

    Attributes
    ----------
    budget_bytes, peak_bytes : int
        Of a rank: allowed, and predicted.
    resident : Resident
        Of a rank; see `pebble.measure.shard_memory`.
    chosen : mapping of str to BlockOption
        By name of the block.
    overhead : float
        Extra compute of the blocks, as a fraction of theirs.
    checked : mapping of str to Verdict
        How each planned block stands beside eager.
    """

    budget_bytes: int
    peak_bytes: int
    resident: Resident
    chosen: Mapping[str, BlockOption] = field(repr=False)
    overhead: float
    checked: Mapping[str, Verdict] = field(repr=False)


@dataclass(frozen=True)
class ShardedStep:
    """A step of a model whose blocks are sharded.

    Attributes
    ----------
    model : nn.Module
        Of the un-sharded shapes.
    blocks : mapping of str to nn.Module
        Parts of it, by name.
    inputs : Inputs
    options : StepOptions
    ranks : int
    """

    model: nn.Module
    blocks: Mapping[str, nn.Module]
    inputs: Inputs
    options: StepOptions
    ranks: int


class BlockSearch:
    """Looks for plans of blocks within one budget for a rank.

    Each block is traced on what the model calls it with, and has a few plans that keep more or
    less. Which of them each block takes is one problem, of a chain. What a choice holds is
    measured in a step of the whole model on this rank, with the gradients of each block let go of
    as soon as they are made, as the ranks do when they share them out; the rest is counted.
    """

    def __init__(self, step: ShardedStep, budget_bytes: int, deadline: Deadline) -> None:
        self.step, self.budget_bytes, self.deadline = step, budget_bytes, deadline
        self.bench = ModuleBench(step.model, step.inputs, step.options.loss)
        self.resident = shard_memory(
            step.model,
            list(step.blocks.values()),
            step.inputs,
            step.options.optimizer,
            ranks=step.ranks,
            accumulates=step.options.accumulates,
        )
        self.steps: dict[str, Step] = {}
        self.options: dict[str, tuple[BlockOption, ...]] = {}

    def find(self) -> tuple[BlocksPlan, dict[str, Follower]]:
        """The plan, and what each block follows.

        Raises
        ------
        InfeasibleBudget
            With the least peak that was measured.
        InvalidArgument, CaptureError, PlanIsWrong
        """
        with training_mode(self.step.model), self.bench.restored():
            self._trace()
            chosen, peak = self._within_budget()
            checked = {name: self._check(name, option) for name, option in chosen.items()}
        followers = {name: self._follower(name, o, peak) for name, o in chosen.items()}
        for name, follower in followers.items():
            follower.verdict = checked[name]
        whole = sum(options[0].cost for options in self.options.values())
        overhead = _cost(chosen) / max(whole, 1) - 1
        plan = BlocksPlan(self.budget_bytes, peak, self.resident, chosen, overhead, checked)
        return plan, followers

    def _trace(self) -> None:
        known: dict[str, tuple[BlockOption, ...]] = {}
        self.bench.reset(self.bench.seed)
        calls = recorded_calls(self.step)
        own = StepOptions(
            optimizer=None, costs=self.step.options.costs, differentiate="all", ranks=SHARDED
        )
        for name, inputs in calls.items():
            step = self.steps[name] = trace(self.step.blocks[name], inputs, own)
            if step.graph.fingerprint not in known:
                seconds = max(self.deadline.left / 4, _LEAST_SECONDS)
                known[step.graph.fingerprint] = block_options(step, seconds)
            self.options[name] = known[step.graph.fingerprint]

    def _within_budget(self) -> tuple[Choice, int]:
        """The cheapest choice that was tried whose measured peak is within the budget."""
        budget, options = self.budget_bytes, list(self.options.values())
        least = {n: min(o, key=lambda option: option.saved_bytes) for n, o in self.options.items()}
        peak = self._peak(least)
        if peak > budget:
            raise self._infeasible(peak)
        fitting, tried = [(least, peak)], {_schedules(least)}
        low = chain_peak(list(least.values()))
        room, high = low + budget - peak, budget
        for _ in range(_ROUNDS):
            found = choose(options, room)
            choice = least if found is None else dict(zip(self.options, found, strict=True))
            if _schedules(choice) in tried:
                break
            tried.add(_schedules(choice))
            peak = self._peak(choice)
            if peak <= budget:
                fitting.append((choice, peak))
            low, high = (room, high) if peak <= budget else (low, room)
            room += budget - peak
            if not low < room < high:
                room = (low + high) // 2
        return min(fitting, key=lambda pair: _cost(pair[0]))

    def _peak(self, choice: Choice) -> int:
        """Peak of the whole step on a rank, from a run of this choice."""
        blocks = self.step.blocks
        self.bench.reset(self.bench.seed)  # before the blocks are planned: it puts modules back
        with contextlib.ExitStack() as stack:
            for name, option in choice.items():
                plan_in_place(blocks[name], self._follower(name, option, None))
                stack.callback(unplan, blocks[name])
                for parameter in blocks[name].parameters():
                    if parameter.requires_grad:
                        leaf: Any = parameter
                        hook = leaf.register_post_accumulate_grad_hook(_let_go)
                        stack.callback(hook.remove)
            run = trace_memory(partial(self.bench.step, Blocks()), str(self.bench.device))
        return self.resident.whole_step_peak(run.peak)

    def _follower(self, name: str, option: BlockOption, peak: int | None) -> Follower:
        step = self.steps[name]
        promise = Promise(
            step.captured.device,
            step.record.threads,
            self.step.options.accumulates,
            peak,
            self.budget_bytes,
            ranks=SHARDED,
        )
        return Follower.of(self.step.blocks[name], step.captured, option.schedule, promise)

    def _check(self, name: str, option: BlockOption) -> Verdict:
        """Compare a planned block with its own forward and backward."""
        step = self.steps[name]
        whole = step.footprint.unplanned_peak
        check = StepCheck(option.schedule, whole, step.resident.total, None, step.captured)
        return check.run(step.model, step.inputs)

    def _infeasible(self, least: int) -> InfeasibleBudget:
        kinds = ", ".join(f"{gigabytes(size)} {kind}" for kind, size in self.resident.kinds.items())
        return InfeasibleBudget(
            f"{gigabytes(self.budget_bytes)} a rank is below the least that was measured with "
            f"planned blocks, {gigabytes(least)}: {kinds}, and what the step computes. Shard over "
            "more ranks or in smaller blocks, take a smaller micro-batch, or allow more.",
            budget_bytes=self.budget_bytes,
            least_bytes=least,
        )


def recorded_calls(step: ShardedStep) -> dict[str, Inputs]:
    """What each block is called with in a forward of the whole model, in the order of the calls.

    Raises
    ------
    InvalidArgument
        If one is not called exactly once.
    """
    found: dict[str, Inputs] = {}
    counts = dict.fromkeys(step.blocks, 0)

    def note(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        counts[name] += 1
        found[name] = Inputs(*tree_map_only(torch.Tensor, _leaf, (args, kwargs)))

    with contextlib.ExitStack() as stack:
        for name, block in step.blocks.items():
            hook = block.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: note(name, args, kwargs), with_kwargs=True
            )
            stack.callback(hook.remove)
        with torch.enable_grad():
            step.model(*step.inputs.args, **dict(step.inputs.kwargs))
    for name, count in counts.items():
        if count != 1:
            raise InvalidArgument(
                f"Block {name!r} is called {count} times in a forward; a block that is planned by "
                "itself is called once. Leave it out of blocks=."
            )
    return found


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _let_go(parameter: torch.Tensor) -> None:
    parameter.grad = None


def _schedules(choice: Choice) -> tuple[Schedule, ...]:
    return tuple(option.schedule for option in choice.values())


def _cost(choice: Choice) -> int:
    return sum(option.cost for option in choice.values())
