"""What a plan promises of a step, and what of a call it did not count."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from pebble.budget import Resident
from pebble.measure.rank_memory import ranks_of
from pebble.ranks import ALONE, Ranks
from pebble.tracing.captured import Captured
from pebble.tracing.torch_private.storages import storage_bytes, storage_id
from pebble.tracing.wrapped import running_data_parallel


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
    waiting_bytes : int
        Of calls that wait for their backward, which are counted.
    resident : Resident or None
        What no schedule changes, to weigh the step again; None: nobody said.
    ranks : Ranks
        How the ranks were taken to share the work.
    """

    device: str
    threads: int
    accumulates: bool
    peak_bytes: int | None = None
    budget_bytes: int | None = None
    waiting_bytes: int = 0
    resident: Resident | None = None
    ranks: Ranks = ALONE

    @classmethod
    def of(
        cls,
        captured: Captured,
        *,
        threads: int | None = None,
        peak_bytes: int | None = None,
        budget_bytes: int | None = None,
        waiting_bytes: int = 0,
        resident: Resident | None = None,
        ranks: Ranks = ALONE,
    ) -> Promise:
        """The promise for a captured step; threads: those of the process unless given."""
        return cls(
            captured.device,
            torch.get_num_threads() if threads is None else threads,
            captured.accumulates,
            peak_bytes,
            budget_bytes,
            waiting_bytes,
            resident,
            ranks,
        )

    def has_room(self, more_bytes: int) -> bool:
        """Whether the budget is known to be kept with so many bytes beside the planned step."""
        if self.peak_bytes is None or self.budget_bytes is None:
            return False
        return self.peak_bytes + more_bytes <= self.budget_bytes

    def threads_now(self) -> int:
        """How many threads its kernels would run with; those of a card have no such number."""
        return torch.get_num_threads() if self.device == "cpu" else self.threads

    def other_threads(self, needed_bytes: int | None = None) -> str | None:
        """A sentence where the kernels run with another number of threads than was measured.

        Parameters
        ----------
        needed_bytes : int, optional
            What the step needs with it, where that is known.
        """
        now = self.threads_now()
        if now == self.threads:
            return None
        figures = "" if needed_bytes is None else f" ({self._beside_budget(needed_bytes)})"
        return (
            f"was planned with {self.threads} threads and runs with {now}: the temporaries of its "
            f"kernels, which depend on that, were not counted{figures}. Plan again with this "
            f"number, or set torch.set_num_threads({self.threads})."
        )

    def kept_threads(self, needed_bytes: int) -> str:
        """A sentence where the kernels keep to the threads that they were planned with."""
        return (
            f"was planned with {self.threads} threads and is called with {self.threads_now()}, "
            f"with which it would not keep its budget ({self._beside_budget(needed_bytes)}): its "
            f"kernels keep to {self.threads}. Plan again with this number, or allow more."
        )

    def _beside_budget(self, needed_bytes: int) -> str:
        return f"{needed_bytes:,} bytes of {self.budget_bytes:,}"

    def wrapped_otherwise(self, differentiated: Sequence[torch.Tensor]) -> str | None:
        """A sentence where a wrapper calls the step that takes memory which was not counted."""
        found = ranks_of(running_data_parallel())
        if found is None or found == self.ranks:
            return None
        if self.ranks.buckets is None:
            size = sum(t.nbytes for t in differentiated)
            if self.has_room(size):
                return None
            return (
                f"was planned for one process and is wrapped in DistributedDataParallel, whose "
                f"gradient buckets ({size:,} bytes) its plan does not count. Plan it after "
                "torch.distributed.init_process_group."
            )
        if found.hands_copies and not self.ranks.hands_copies:
            return (
                "is wrapped in DistributedDataParallel with find_unused_parameters or "
                "static_graph, which hands over copies of the outputs that its plan does not "
                "count. Plan the wrapped model: pebble.optimize(ddp_model, ...)."
            )
        return None

    def gradients_there(self, differentiated: Sequence[torch.Tensor]) -> str | None:
        """A sentence where a step begins with gradients that its plan does not count."""
        if self.accumulates:
            return None
        there = [t.grad for t in differentiated if t.is_leaf and t.grad is not None]
        held = sum(g.nbytes if g.layout is torch.strided else storage_bytes([g]) for g in there)
        if not held:
            return None
        return (
            f"begins a step with {held:,} bytes of gradients that its plan does not count. Set "
            "them to None before the forward (optimizer.zero_grad(set_to_none=True)), or, where "
            "micro-batches are added up, plan with accumulation_steps=."
        )

    def calls_in_flight(
        self,
        waiting: Sequence[Sequence[torch.Tensor]],
        tensors: Sequence[torch.Tensor],
        differentiated: Sequence[int],
    ) -> str | None:
        """A sentence where earlier calls still wait for their backward when another begins.

        Parameters
        ----------
        waiting : sequence of sequence of Tensor
            The tapes of those calls.
        tensors : sequence of Tensor
            Of the call that begins, and where among them those are that get a gradient.
        """
        if not waiting:
            return None
        kept = _bytes_of(itertools.chain.from_iterable(waiting), besides=tensors)
        kept -= self.waiting_bytes
        # of the first backward
        there = 0 if self.accumulates else sum(tensors[i].nbytes for i in differentiated)
        if kept + there <= 0 or self.has_room(kept + there):
            return None
        total = "" if self.peak_bytes is None else f", {self.peak_bytes + kept:,} bytes in all"
        alone = "one call" if self.peak_bytes is None else f"one call ({self.peak_bytes:,} bytes)"
        return (
            f"is called while {len(waiting)} of its calls wait for their backward: they keep "
            f"{kept:,} bytes beside what was planned for {alone}{total}. Call backward before the "
            "next forward, drop outputs that need none, or plan with calls_in_flight="
            f"{len(waiting) + 1}."
        )


def _bytes_of(tensors: Iterable[torch.Tensor], *, besides: Iterable[torch.Tensor]) -> int:
    """Of storages, each once, that others do not hold."""
    known = {storage_id(t) for t in besides}
    return storage_bytes(t for t in tensors if storage_id(t) not in known)
