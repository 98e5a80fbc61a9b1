"""Two ranks of a gloo group on this machine, and training steps on them."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import start_processes

RANKS, ROWS, WIDTH, STEPS = 2, 64, 16, 5


def on_two_ranks(work: Callable[..., Any], folder: Path, *given: Any) -> list[Any]:
    """What ``work(rank, *given)`` returns on each of two ranks."""
    folder.mkdir(exist_ok=True)
    # Forked from a process that has imported what is slow to import and done nothing else: one that
    # was forked from here may not go backward any more, if autograd has started its threads here.
    multiprocessing.set_forkserver_preload(["pebble.plan.optimization", __name__])
    start_processes(_one_rank, (work, folder, given), nprocs=RANKS, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def _one_rank(rank: int, work: Callable[..., Any], folder: Path, given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)  # the pool of threads was not forked
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    torch.save(work(rank, *given), folder / f"{rank}.pt")
    dist.destroy_process_group()


def collectives() -> int:
    """How many this process has taken part in."""
    return int(dist.group.WORLD._get_sequence_number_for_group())  # type: ignore[union-attr]


def tower(*, buffers: bool = True) -> nn.Sequential:
    """Some layers, with or without buffers among them; from one seed."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(WIDTH) if buffers else nn.LayerNorm(WIDTH)
    block = [nn.Linear(WIDTH, WIDTH), norm, nn.Tanh()]
    more = [nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.Tanh()]
    return nn.Sequential(*block, *more, nn.Linear(WIDTH, 4))


def batch(rank: int, number: int) -> torch.Tensor:
    """One rank's micro-batch of a number."""
    generator = torch.Generator().manual_seed(RANKS * number + rank)
    return torch.randn(ROWS, WIDTH, generator=generator)


@dataclass(frozen=True)
class Trained:
    """What a rank has trained.

    Attributes
    ----------
    state : list of Tensor
        Parameters and buffers.
    peak : int
        Bytes of a step beyond what was there when it began. The least of the steps after the
        first: a release on gloo's own thread is not seen, which can only add to what is.
    collectives : int
    """

    state: list[torch.Tensor]
    peak: int
    collectives: int


def train(model: nn.Module, rank: int, accumulation: int = 1) -> Trained:
    """Five steps of SGD, each over some micro-batches of this rank's own."""
    from pebble.measure.allocator import trace_memory

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    began = collectives()

    def step(number: int) -> None:
        for k in range(accumulation):
            with model.no_sync() if k + 1 < accumulation else contextlib.nullcontext():  # type: ignore[operator]
                x = batch(rank, number * accumulation + k)
                (model(x).square().mean() / accumulation).backward()
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    peaks = [trace_memory(partial(step, number)).peak for number in range(1, STEPS)]
    ran = collectives() - began
    state = [tensor.detach().clone() for tensor in model.state_dict().values()]
    return Trained(state, min(peaks), ran)


def train_joined(model: nn.Module, accumulation: int = 1) -> list[torch.Tensor]:
    """The same in one process, each micro-batch that of both ranks."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(STEPS):
        for k in range(accumulation):
            x = torch.cat([batch(rank, number * accumulation + k) for rank in range(RANKS)])
            (model(x).square().mean() / accumulation).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [tensor.detach() for tensor in model.state_dict().values()]
