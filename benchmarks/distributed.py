"""DistributedDataParallel and FSDP2 with plans: two gloo ranks on this machine.

    python benchmarks/distributed.py [NAME ...]

Each row trains one small model for five steps of SGD on two ranks, as it is and with plans, and in
one process on the joined batches. Exit status 1 if parameters or the number of collectives differ
from those without a plan, the numbers from those of one process by more than rounding, or a rank
is above its prediction.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

import pebble
from pebble.formatting import gigabytes, table
from pebble.integrations.distributed import budgeted_blocks
from pebble.measure.allocator import trace_memory
from pebble.tracing.torch_private.storages import storage_bytes

RESULTS = Path(__file__).parent / "results" / "distributed.json"
RANKS, STEPS, ROWS, WIDTH, LAYERS = 2, 5, 512, 128, 4
SHARE = {"ddp": 0.75, "fsdp": 0.7}
"""Of the peak without a plan: the budget."""
CASES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    f"{kind}, {way}{name}, accumulation {steps}": (kind, way, steps, wrapper)
    for kind, way, name, wrapper in (
        ("ddp", "optimize before", "", {}),
        ("ddp", "optimize after", "", {}),
        ("ddp", "budgeted before", "", {}),
        ("ddp", "budgeted after", "", {}),
        ("ddp", "optimize after", " (bucket views)", {"gradient_as_bucket_view": True}),
        ("ddp", "optimize after", " (unused)", {"find_unused_parameters": True}),
        ("ddp", "optimize after", " (small buckets)", {"bucket_cap_mb": 0.2}),
        ("fsdp", "blocks before", "", {}),
        ("fsdp", "blocks after", "", {}),
    )
    for steps in (1, 2)
}
"""Row -> wrapper, when it is planned, accumulation, options of the wrapper."""


class Block(nn.Module):
    """Half of a transformer's block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))


class Net(nn.Module):
    """Blocks between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(64, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.last = nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


@dataclass(frozen=True)
class Row:
    """What one way of training came to, the worse rank of the two.

    Attributes
    ----------
    budget_bytes, predicted_bytes, measured_bytes, plain_bytes : int
        Of a rank; the last without a plan.
    collectives, plain_collectives : int
        In five steps.
    planning_collectives : int
    equal : bool
        Parameters, bit for bit those without a plan, on both ranks.
    joined : float
        Largest difference to one process on the joined batches, of the largest entry.
    """

    name: str
    budget_bytes: int
    predicted_bytes: int
    measured_bytes: int
    plain_bytes: int
    collectives: int
    plain_collectives: int
    planning_collectives: int
    equal: bool
    joined: float

    @property
    def good(self) -> bool:
        """Whether it kept what is promised."""
        kept = self.measured_bytes <= self.predicted_bytes <= self.budget_bytes
        same = self.collectives == self.plain_collectives and not self.planning_collectives
        return kept and same and self.equal and self.joined < 1e-5


@dataclass(frozen=True)
class Trained:
    """What a rank has trained: parameters, peak in bytes, collectives."""

    state: list[torch.Tensor]
    peak: int
    collectives: int


def loss(output: torch.Tensor) -> torch.Tensor:
    return output.square().mean()


def batch(rank: int, number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(RANKS * number + rank)
    return torch.randn(ROWS, 64, generator=generator)


def collectives() -> int:
    """That this process has taken part in."""
    return int(dist.group.WORLD._get_sequence_number_for_group())  # type: ignore[union-attr]


def wrap(kind: str, model: Net, options: dict[str, Any]) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model, **options)
    mesh = init_device_mesh("cpu", (RANKS,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def plan(model: Any, way: str, rank: int, budget: int, accumulation: int) -> tuple[Any, int]:
    """The model with its plans, and the predicted peak where it is known by now."""
    options: dict[str, Any] = {"optimizer": "sgd", "accumulation_steps": accumulation}
    options |= {"budget_bytes": budget, "loss": loss}
    x = batch(rank, 0)
    if way.startswith("blocks"):
        blocks = list(model.blocks) if way == "blocks before" else None
        found = budgeted_blocks(model, x, blocks, **options)
        return model, found.peak_bytes
    if way.startswith("budgeted"):
        return pebble.budgeted(model, display=False, **options), 0
    made = pebble.optimize(model, x, time_limit=20, **options)
    return made.apply(model), made.peak_bytes


def resident(kind: str, model: Any) -> int:
    """Bytes of a rank between steps."""
    if kind == "fsdp":
        return storage_bytes([p.to_local() for p in model.parameters()])
    buckets = sum(b.buffer().nbytes for b in model.reducer._get_zeros_like_grad_buckets())
    return buckets + storage_bytes([*model.parameters(), *model.buffers()])


def together(kind: str, model: Any, last: bool) -> Any:
    """A context in which gradients are shared out only after the last micro-batch."""
    if kind == "fsdp":
        model.set_requires_gradient_sync(last)
        return contextlib.nullcontext()
    return contextlib.nullcontext() if last else model.no_sync()


def train(kind: str, model: Any, rank: int, accumulation: int) -> Trained:
    """Five steps on a rank.

    The peak is the least of those after the first: a release on gloo's own thread is not seen,
    which can only add to what is.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    began = collectives()

    def step(number: int) -> None:
        for k in range(accumulation):
            with together(kind, model, k + 1 == accumulation):
                x = batch(rank, number * accumulation + k)
                (loss(model(x)) / accumulation).backward()
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    peaks = [trace_memory(partial(step, number)).peak for number in range(1, STEPS)]
    ran = collectives() - began
    bare = model.parameters() if kind == "fsdp" else model.module.parameters()
    state = [p.full_tensor() if kind == "fsdp" else p for p in bare]
    peak = resident(kind, model) + min(peaks)
    return Trained([p.detach().clone() for p in state], peak, ran)


def alone(accumulation: int) -> list[torch.Tensor]:
    """Parameters after five steps of one process on the joined batches."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(STEPS):
        for k in range(accumulation):
            n = number * accumulation + k
            x = torch.cat([batch(rank, n) for rank in range(RANKS)])
            (loss(model(x)) / accumulation).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach() for p in model.parameters()]


def case(rank: int, name: str) -> dict[str, Any]:
    """One row as a rank sees it."""
    kind, way, accumulation, options = CASES[name]
    plain = train(kind, wrap(kind, Net(), options), rank, accumulation)
    budget = int(SHARE[kind] * plain.peak)
    model: Any = Net()
    planning = 0
    if way.endswith("after"):
        model = wrap(kind, model, options)
    began = collectives()
    model, predicted = plan(model, way, rank, budget, accumulation)
    planning = collectives() - began
    if way.endswith("before"):
        model = wrap(kind, model, options)
    trained = train(kind, model, rank, accumulation)
    if not predicted:
        predicted = pebble.status(model).predicted_peak_bytes or 0
    joined = alone(accumulation)
    differences = [
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(trained.state, joined)
    ]
    return {
        "budget_bytes": budget,
        "predicted_bytes": predicted,
        "measured_bytes": trained.peak,
        "plain_bytes": plain.peak,
        "collectives": trained.collectives,
        "plain_collectives": plain.collectives,
        "planning_collectives": planning,
        "equal": all(map(torch.equal, trained.state, plain.state)),
        "joined": max(differences),
    }


def on_a_rank(rank: int, names: list[str], folder: str) -> None:
    """All rows on one rank."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    for number, name in enumerate(names):
        found = case(rank, name)
        Path(folder, f"{number}.{rank}.json").write_text(json.dumps(found))
        if rank == 0:
            print(f"{name}: {found}", flush=True)
    dist.destroy_process_group()


def worse(name: str, ranks: list[dict[str, Any]]) -> Row:
    """The row of two ranks: the one nearer to its prediction, what must be so on both."""
    worst = max(ranks, key=lambda r: r["measured_bytes"] / max(r["predicted_bytes"], 1))
    both = {"equal": all(r["equal"] for r in ranks), "joined": max(r["joined"] for r in ranks)}
    return Row(name=name, **{**worst, **both})


def shown(rows: list[Row]) -> str:
    """The table."""
    header = ["way", "no plan", "budget", "predicted", "measured", "collectives", "no plan's",
              "equal", "to one process", "good"]  # fmt: skip
    cells = [
        [
            r.name, gigabytes(r.plain_bytes), gigabytes(r.budget_bytes),
            gigabytes(r.predicted_bytes), gigabytes(r.measured_bytes), str(r.collectives),
            str(r.plain_collectives), "yes" if r.equal else "NO", f"{r.joined:.0e}",
            "ok" if r.good else "WRONG",
        ]
        for r in rows
    ]  # fmt: skip
    return table(header, cells)


def main() -> int:
    """Run the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help=f"beginnings of {'; '.join(CASES)}")
    asked = parser.parse_args().names
    names = [n for n in CASES if not asked or any(n.startswith(a) for a in asked)]
    with tempfile.TemporaryDirectory() as folder:
        spawn(on_a_rank, (names, folder), nprocs=RANKS)
        rows = [
            worse(name, [json.loads(Path(folder, f"{i}.{r}.json").read_text()) for r in (0, 1)])
            for i, name in enumerate(names)
        ]
    print(shown(rows))
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    kept = {row["name"]: row for row in known} | {
        r.name: asdict(r) | {"good": r.good} for r in rows
    }
    data = {
        "command": "python benchmarks/distributed.py",
        "date": str(date.today()),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread a rank",
        "load": round(os.getloadavg()[0], 1),
        "rows": [kept[name] for name in CASES if name in kept],
    }
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")
    return int(not all(row.good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
