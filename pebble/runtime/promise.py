"""What a plan promises of a step, and what of a call it did not count."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from pebble.runtime.planned_step import PlannedStep
from pebble.tracing.captured import Captured
from pebble.tracing.torch_private.storages import storage_bytes, storage_id


@dataclass(frozen=True)
class Promise:
    """What a planned step was measured with and predicted to need.

    Attributes
    ----------
    device : str
    threads : int
        Of the process when the temporaries of the kernels were measured.
    accumulates : bool
        Whether gradients that are there already are counted.
    peak_bytes, budget_bytes : int or None
        Predicted, and allowed, of the whole step; None: nobody said.
    """

    device: str
    threads: int
    accumulates: bool
    peak_bytes: int | None = None
    budget_bytes: int | None = None

    @classmethod
    def of(
        cls,
        captured: Captured,
        *,
        threads: int | None = None,
        peak_bytes: int | None = None,
        budget_bytes: int | None = None,
    ) -> Promise:
        """The promise for a captured step; threads: those of the process unless given."""
        threads = torch.get_num_threads() if threads is None else threads
        return cls(captured.device, threads, captured.accumulates, peak_bytes, budget_bytes)

    def has_room(self, more_bytes: int) -> bool:
        """Whether the budget is known to be kept with so many bytes beside the planned step."""
        if self.peak_bytes is None or self.budget_bytes is None:
            return False
        return self.peak_bytes + more_bytes <= self.budget_bytes

    def other_threads(self) -> str | None:
        """A sentence where the kernels run with another number of threads than was measured."""
        now = torch.get_num_threads()
        if now == self.threads or self.device != "cpu":
            return None
        return (
            f"was planned with {self.threads} threads and runs with {now}: the temporaries of its "
            "kernels, which depend on that, were not counted. Plan again with this number, or set "
            f"torch.set_num_threads({self.threads})."
        )

    def gradients_there(self, differentiated: Sequence[torch.Tensor]) -> str | None:
        """A sentence where a step begins with gradients that its plan does not count."""
        if self.accumulates:
            return None
        there = [t.grad for t in differentiated if t.is_leaf and t.grad is not None]
        held = sum(g.nbytes for g in there if g.layout is torch.strided)
        if not held:
            return None
        return (
            f"begins a step with {held:,} bytes of gradients that its plan does not count. Set "
            "them to None before the forward (optimizer.zero_grad(set_to_none=True)), or, where "
            "micro-batches are added up, plan with accumulation_steps=."
        )

    def calls_in_flight(self, step: PlannedStep, tensors: Sequence[torch.Tensor]) -> str | None:
        """A sentence where earlier calls still wait for their backward when another begins."""
        waiting = step.waiting()
        if not waiting:
            return None
        kept = _bytes_of(itertools.chain.from_iterable(waiting), besides=tensors)
        gradients = sum(tensors[i].nbytes for i in step.differentiated)  # of the first backward
        if self.has_room(kept + gradients):
            return None
        total = "" if self.peak_bytes is None else f", {self.peak_bytes + kept:,} bytes in all"
        alone = "one call" if self.peak_bytes is None else f"one call ({self.peak_bytes:,} bytes)"
        return (
            f"is called while {len(waiting)} of its calls wait for their backward: they keep "
            f"{kept:,} bytes beside what was planned for {alone}{total}. Call backward before the "
            "next forward, drop outputs that need none, or plan with so much less."
        )


def _bytes_of(tensors: Iterable[torch.Tensor], *, besides: Iterable[torch.Tensor]) -> int:
    """Of storages, each once, that others do not hold."""
    known = {storage_id(t) for t in besides}
    return storage_bytes(t for t in tensors if storage_id(t) not in known)
