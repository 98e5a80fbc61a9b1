"""`BudgetBatchSampler`: batches as large as a memory budget allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.utils.data import Sampler

from pebble.arguments import positive_integer
from pebble.data.batch_plan import Batches, cut
from pebble.data.padding import pad_collate
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.formatting import gigabytes
from pebble.plan.families.family import Family
from pebble.plan.families.making import family
from pebble.runtime.planned_module import PlannedModule


class BudgetBatchSampler(Sampler[list[int]]):
    """Batches of a dataset, each as large as a budget allows for the longest sample in it.

    Pass it to a ``DataLoader`` as `batch_sampler`. Every sample is in one batch of an epoch, on
    one rank; all ranks have equally many batches, of about the same lengths at the same time.

    Parameters
    ----------
    lengths : sequence of int
        Of the samples, by index.
    planned : nn.Module or Family
        What `pebble.budgeted` or `pebble.family` returned. Of a module a family is made, on
        `inputs`.
    shuffle : bool
        Whether samples of about one length meet at random and batches come in any order; else the
        longest come first.
    seed : int
        With the epoch, decides the order.
    num_replicas, rank : int, optional
        Default: those of torch.distributed where it is set up, else one rank. One where something
        else hands out the batches (Accelerate, and Trainer with it).
    inputs : optional
        As for `pebble.family`. Default: token ids, labels and a mask as `pad_collate` makes them
        for a model whose inputs can be inferred.
    pad_to : int
        What `pad_collate` rounds lengths up to.

    Raises
    ------
    InfeasibleBudget
        If a sample fits in no batch: names it, and what it needs.
    InvalidArgument, CaptureError

    Examples
    --------
    >>> import torch, pebble
    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layers = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(3)])
    ...     def forward(self, x):
    ...         return self.layers(x).square().mean()
    >>> found = pebble.family(
    ...     Net(), lambda batch, length: torch.ones(batch, length, 8), lengths=(4, 40),
    ...     budget_bytes=40_000, optimizer="sgd", display=False, time_limit=1)
    >>> sampler = pebble.data.BudgetBatchSampler([40, 8, 9, 10, 11, 12, 38, 39], found)
    >>> sorted(i for batch in sampler for i in batch)
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    def __init__(
        self,
        lengths: Sequence[int],
        planned: nn.Module | Family,
        shuffle: bool = True,
        seed: int = 0,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        inputs: Any = None,
        pad_to: int = 1,
    ) -> None:
        self.pad_to = positive_integer("pad_to", pad_to)
        self.lengths = [-(-int(n) // pad_to) * pad_to for n in lengths]
        if not self.lengths or min(self.lengths) < 1:
            raise InvalidArgument("lengths has no entries, or one below 1; pass one for a sample.")
        self.family = _family(planned, inputs, self.lengths)
        self.shuffle, self.seed = bool(shuffle), int(seed)
        self.num_replicas, self.rank = _ranks(num_replicas, rank)
        self.epoch = 0
        self._begun = 0  # batches of this epoch that were handed out
        self._start = 0
        self._cut: tuple[int, list[Batches]] | None = None
        self._check()

    # -- as a sampler ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[list[int]]:
        groups = self._groups()
        self._begun, self._start = self._start, 0
        for group in groups[self._begun :]:
            self._begun += 1
            yield list(group[self.rank])
        self.epoch += 1
        self._begun = 0

    def __len__(self) -> int:
        """Batches of an epoch on each rank."""
        return len(self._groups())

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; where it is another one, to its beginning."""
        if epoch != self.epoch:
            self.epoch, self._begun, self._start = int(epoch), 0, 0

    def state_dict(self, batches_done: int | None = None) -> dict[str, int]:
        """Where an epoch stands, to go on from there.

        Parameters
        ----------
        batches_done : int, optional
            Of this epoch, on each rank. Default: as many as were handed out, which is more than
            were trained on where a DataLoader's workers fetch ahead.
        """
        done = self._begun or self._start
        return {
            "epoch": self.epoch,
            "batches_done": done if batches_done is None else int(batches_done),
            "seed": self.seed,
            "num_replicas": self.num_replicas,
            "samples": len(self.lengths),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises
        ------
        InvalidArgument
            If it is of other samples, another seed or another number of ranks.
        """
        for name, own in (
            ("seed", self.seed),
            ("num_replicas", self.num_replicas),
            ("samples", len(self.lengths)),
        ):
            if state.get(name) != own:
                raise InvalidArgument(
                    f"The state of the sampler has {name} {state.get(name)!r}, but it is {own!r} "
                    "here: it would go on with other batches. Make the sampler as it was."
                )
        self.epoch, self._start, self._begun = int(state["epoch"]), int(state["batches_done"]), 0

    # -- batches ---------------------------------------------------------------------------------

    def _groups(self) -> list[Batches]:
        if self._cut is None or self._cut[0] != self.epoch:
            generator = np.random.default_rng((self.seed, self.epoch)) if self.shuffle else None
            groups = cut(self.lengths, self.family.max_batch, generator, self.num_replicas)
            self._cut = self.epoch, groups
        return self._cut[1]

    def _check(self) -> None:
        """Name a sample that fits alone nowhere, before training starts."""
        longest = max(range(len(self.lengths)), key=self.lengths.__getitem__)
        for i in (longest, *range(len(self.lengths))):
            length = self.lengths[i]
            if self.family.max_batch(length):
                continue
            least, budget = self.family.least_bytes(length), self.family.budget_bytes
            raise InfeasibleBudget(
                f"Sample {i} of length {length} fits in no batch: a step of "
                f"{self.family.batches[0]} of that length needs {gigabytes(least)}, the budget is "
                f"{gigabytes(budget)}. Shorten or leave out such samples, or raise the budget.",
                budget_bytes=budget,
                least_bytes=least,
            )


def _family(planned: Any, inputs: Any, lengths: Sequence[int]) -> Family:
    if isinstance(planned, Family):
        return planned
    if not isinstance(planned, PlannedModule):
        raise InvalidArgument(
            f"BudgetBatchSampler takes what pebble.budgeted or pebble.family returned, not a "
            f"{type(planned).__name__}."
        )
    span = max(min(lengths), 2), max(*lengths, 2)
    return family(planned, _token_batches(planned) if inputs is None else inputs, lengths=span)


def _token_batches(model: nn.Module) -> Any:
    """Batches as `pad_collate` makes them, of a model whose inputs can be inferred."""
    from pebble.tracing.inputs import make_inputs

    example = make_inputs(model, None, batch_size=1, seq_len=2).kwargs
    tokens = "input_ids" in example and "labels" in example
    if not tokens:
        raise InvalidArgument(
            f"The batches of {type(model).__name__} cannot be inferred; pass inputs=, an example "
            "batch or a function of batch size and length."
        )
    device = example["input_ids"].device

    def make(batch: int, length: int) -> dict[str, Any]:
        ids = torch.ones(length, dtype=torch.long)
        made = pad_collate([{"input_ids": ids, "labels": ids}] * batch)
        return {name: tensor.to(device) for name, tensor in made.items()}

    return make


def _ranks(num_replicas: int | None, rank: int | None) -> tuple[int, int]:
    there = distributed.is_available() and distributed.is_initialized()
    if num_replicas is None:
        num_replicas = distributed.get_world_size() if there else 1
    if rank is None:
        rank = distributed.get_rank() if there else 0
    positive_integer("num_replicas", num_replicas)
    if not 0 <= rank < num_replicas:
        raise InvalidArgument(f"rank is {rank!r}; it is one of 0 to {num_replicas - 1}.")
    return num_replicas, rank
