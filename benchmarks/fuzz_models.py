"""Random models of blocks that people write, one for each number, for `fuzz.py`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Block = Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]


class Fuzzed(nn.Module):
    """A stack of random blocks on [batch, time, width] tensors.

    Parameters
    ----------
    rng : random.Random
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.width = rng.choice((4, 8))
        self.enter = nn.Linear(5, self.width)
        names = list(BLOCKS)
        self.names = [rng.choice(names) for _ in range(rng.randint(2, 6))]
        self.blocks = nn.ModuleList(BLOCKS[name](self.width, rng) for name in self.names)
        self.again = rng.randrange(len(self.names)) if rng.random() < 0.3 else None
        self.ends = rng.choice(("tensor", "scalar", "loss", "pair", "nested"))
        self.head = nn.Linear(self.width, 3)
        if rng.random() < 0.2:
            self.head.weight = nn.Parameter(self.head.weight.detach(), requires_grad=False)
        if rng.random() < 0.2 and self.width == 4:
            self.tied = nn.Linear(5, 4)
            self.tied.weight = self.enter.weight

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> Any:
        h = self.enter(x)
        if hasattr(self, "tied"):
            h = h + self.tied(x).sigmoid()
        middle = h
        for i, block in enumerate(self.blocks):
            h = block(h, ids)
            middle = h if i == 0 else middle
        if self.again is not None:
            h = self.blocks[self.again](h, ids)
        y = self.head(h)
        return {
            "tensor": lambda: y,
            "scalar": lambda: y.square().mean(),
            "loss": lambda: {"loss": F.cross_entropy(y.flatten(0, 1), ids.flatten() % 3), "y": y},
            "pair": lambda: (y, middle * 2),
            "nested": lambda: {"one": [y.sum(-1), None], "two": {"ids": ids + 1, "h": h.mean(1)}},
        }[self.ends]()


class Affine(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width, bias=rng.random() < 0.7)
        self.act = rng.choice(
            (nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.ReLU(inplace=True), nn.ELU(), nn.Mish())
        )

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.act(self.mix(h))


class Norm(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.kind = rng.choice(("layer", "batch", "group", "rms"))
        self.norm = {
            "layer": lambda: nn.LayerNorm(width),
            "batch": lambda: nn.BatchNorm1d(width, momentum=rng.choice((0.1, 0.3))),
            "group": lambda: nn.GroupNorm(2, width),
            "rms": lambda: nn.RMSNorm(width),
        }[self.kind]()

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        if self.kind in ("layer", "rms"):
            return self.norm(h)
        return self.norm(h.transpose(1, 2)).transpose(1, 2)


class Drop(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.drop = nn.Dropout(rng.choice((0.0, 0.1, 0.5)))
        self.noise = rng.random() < 0.3
        if rng.random() < 0.2:
            self.drop.eval()

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        h = self.drop(h)
        return h + 0.1 * torch.randn_like(h) if self.noise else h


class Branch(nn.Module):
    """Python numbers that the forward reads."""

    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.inner = Affine(width, rng)
        self.scale, self.kind = rng.choice((0.5, 1, 2.0)), rng.randrange(3)

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        if self.kind == 0:
            return h + self.scale * self.inner(h, ids)
        if self.kind == 1 and h.shape[1] > 3:
            return torch.where(h > 0, h, self.inner(h, ids) / self.scale)
        for _ in range(self.kind):
            h = h + self.inner(h, ids)
        return h


class Writes(nn.Module):
    """Writes in place: to values, to slices, to views."""

    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.kind = rng.randrange(6)

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        y = h * 1.5
        if self.kind == 0:
            y[:, 0] = 0.25
        elif self.kind == 1:
            y.add_(h.tanh()).mul_(0.5)
        elif self.kind == 2:
            y[..., :2].mul_(2.0)
        elif self.kind == 3:
            y.transpose(1, 2)[0].copy_(h[1].t())
        elif self.kind == 4:
            y = y.masked_fill_(ids[..., None] == 0, 0.0)
        else:
            y.view(-1, y.shape[-1])[1:].sub_(1.0)
        return y


class Views(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.kind = rng.randrange(7)

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        a, b = h.chunk(2, -1)
        return (
            lambda: torch.cat([b.sigmoid() * a, b], -1),
            lambda: torch.stack([a, b], -1).flatten(-2),
            lambda: h.flip(1).roll(1, 1),
            lambda: h.transpose(1, 2).reshape(h.shape),
            lambda: F.pad(a, (0, b.shape[-1])) + h,
            lambda: torch.cat(h.unbind(1)[::-1], -1).view(h.shape),
            lambda: h.cumsum(1) * h.softmax(-1).amax(-1, keepdim=True),
        )[self.kind]()


class Buffers(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.register_buffer("running", torch.zeros(width))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.reads = rng.random() < 0.5
        self.plain = torch.linspace(0, 1, width) if rng.random() < 0.3 else None

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        before = self.running.clone() if self.reads else 0.0
        with torch.no_grad():
            self.count.add_(1)
            self.running.mul_(0.9).add_(h.mean((0, 1)), alpha=0.1)
        h = h - before
        return h if self.plain is None else h * self.plain


class Region(nn.Module):
    """Another precision inside of the forward."""

    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)
        self.on = rng.random() < 0.5

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.on):
            return self.mix(h.float()).float().tanh()


class Convolution(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        mode = rng.choice(("zeros", "reflect", "circular"))
        groups = rng.choice((1, 2))
        self.conv = nn.Conv1d(width, width, 3, padding=1, padding_mode=mode, groups=groups)

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.conv(h.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.qkv, self.heads = nn.Linear(width, 3 * width), rng.choice((1, 2))
        self.fused, self.causal = rng.random() < 0.6, rng.random() < 0.5
        self.p = rng.choice((0.0, 0.0, 0.2))

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        n, t, c = h.shape
        q, k, v = (x.view(n, t, self.heads, -1).transpose(1, 2) for x in self.qkv(h).chunk(3, -1))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p, is_causal=self.causal)
        else:
            scores = (q @ k.transpose(-1, -2)) / 2.0
            y = F.dropout(scores.softmax(-1), self.p, self.training) @ v
        return h + y.transpose(1, 2).reshape(n, t, c)


class Embeds(nn.Module):
    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.table = nn.Embedding(11, width, padding_idx=rng.choice((None, 0)))
        self.tied = rng.random() < 0.5

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        h = h + self.table(ids)
        return h + (h @ self.table.weight.t()).softmax(-1) @ self.table.weight if self.tied else h


class Picks(nn.Module):
    """Entries chosen by what they hold, with integers in between."""

    def __init__(self, width: int, rng: random.Random) -> None:
        super().__init__()
        self.kind = rng.randrange(5)

    def forward(self, h: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return (
            lambda: h + h.max(1, keepdim=True).values,
            lambda: h.sort(-1).values,
            lambda: h.gather(1, (ids % h.shape[1])[..., None].expand_as(h)),
            lambda: h * F.one_hot(h.argmax(-1), h.shape[-1]),
            lambda: h + h.index_select(1, torch.arange(h.shape[1] - 1, -1, -1)),
        )[self.kind]()


BLOCKS: dict[str, Callable[[int, random.Random], nn.Module]] = {
    kind.__name__: kind
    for kind in (
        Affine, Norm, Drop, Branch, Writes, Views, Buffers, Region, Convolution, Attention, Embeds,
        Picks,
    )
}  # fmt: skip


def make(number: int) -> tuple[Fuzzed, tuple[torch.Tensor, torch.Tensor], random.Random]:
    """The model of a number, its inputs, and what draws the rest."""
    rng = random.Random(f"model {number}")
    torch.manual_seed(number)
    model = Fuzzed(rng)
    n, t = rng.randint(2, 5), rng.randint(2, 6)
    x = torch.randn(n, t, 5, requires_grad=rng.random() < 0.3)
    return model, (x, torch.randint(0, 11, (n, t))), rng
