"""Training loops that the tests of budgeted modules run twice: with plans and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from pebble.measure.allocator import trace_memory
from pebble.tracing.torch_private.storages import storage_bytes

WORDS = 40


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        scores = (q @ k.transpose(1, 2) / 4).softmax(-1)
        x = x + self.drop(self.out(self.drop(scores) @ v))
        return x + self.drop(self.mlp(x))


class Reader(nn.Module):
    """A transformer with dropout that takes any batch and length."""

    def __init__(self, layers: int = 2, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(layers)])
        self.head = nn.Linear(width, WORDS)

    def forward(self, ids: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        logits = self.head(self.blocks(self.embedding(ids)))
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def padded(samples: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = nn.utils.rnn.pad_sequence(samples, batch_first=True)
    return {"ids": ids, "labels": ids.clone()}


def sentences(*lengths: int) -> DataLoader[torch.Tensor]:
    """Batches of 4 sentences, the last one smaller, each padded to its longest."""
    generator = torch.Generator().manual_seed(0)
    data = [torch.randint(1, WORDS, (n,), generator=generator) for n in lengths]
    return DataLoader(data, batch_size=4, drop_last=False, collate_fn=padded)  # type: ignore[arg-type]


class Run:
    """What a loop left behind: losses, parameters, and the most bytes of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.peaks: list[int] = []
        self.state: dict[str, torch.Tensor] = {}

    def equals(self, other: Run) -> bool:
        return (self.losses, self.scores) == (other.losses, other.scores) and all(
            torch.equal(a, b)
            for a, b in zip(self.state.values(), other.state.values(), strict=True)
        )


def epoch(model: nn.Module, batches: Any, *, accumulate: int = 1, measured: bool = False) -> Run:
    """Train on every batch, with an evaluation after every step of the optimizer."""
    run, optimizer = Run(), torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(1)
    for i, batch in enumerate(batches):
        if measured:  # plans are made outside of what is measured
            run.peaks.append(_peak_of(model, batch, optimizer))
        loss = model(**batch)["loss"] / accumulate
        loss.backward()
        run.losses.append(loss.item())
        if i % accumulate == accumulate - 1:
            optimizer.step()
            optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                run.scores.append(model(**batch)["loss"].item())
            model.train()
    optimizer.step()
    run.state = {name: t.clone() for name, t in model.state_dict().items()}
    return run


def _peak_of(model: nn.Module, batch: dict[str, torch.Tensor], optimizer: Any) -> int:
    """Bytes of a whole step, measured and then undone."""
    before = {name: t.clone() for name, t in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    with torch.random.fork_rng(devices=[]):
        out = model(**batch)  # planned by now
        del out
        taken = trace_memory(lambda: _backward(model, batch)).peak
    held = [*model.parameters(), *model.buffers(), *batch.values(), *_state_of(optimizer)]
    held += [g for g in gradients if g is not None]
    model.load_state_dict(before)
    for p, gradient in zip(model.parameters(), gradients):
        p.grad = gradient
    return storage_bytes(held) + taken


def _backward(model: nn.Module, batch: dict[str, torch.Tensor]) -> Any:
    output = model(**batch)
    output["loss"].backward()
    return output


def _state_of(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for entry in optimizer.state.values():
        yield from (t for t in entry.values() if isinstance(t, torch.Tensor))
