"""Models that are no single graph, with inputs and losses, for `without_graph.py`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


@dataclass(frozen=True)
class Case:
    """A model, its inputs and its loss; "module" where a graph of this one input would do."""

    model: nn.Module
    inputs: Any
    loss: Callable[[Any], torch.Tensor] | None = None
    level: Literal["auto", "module"] = "auto"


CASES: dict[str, Callable[[], Case]] = {}


def case(build: Callable[[], Case]) -> Callable[[], Case]:
    CASES[build.__name__.replace("_", "-")] = build
    return build


def block(width: int, dropout: float = 0.1) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout),
        nn.Linear(2 * width, width),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.inner = block(width, dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


# -- recurrent -----------------------------------------------------------------------------------


class Classifier(nn.Module):
    def __init__(self, layers: int = 4, width: int = 48) -> None:
        super().__init__()
        self.words = nn.Embedding(100, width)
        self.rnn = nn.LSTM(width, width, layers, batch_first=True, dropout=0.2)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, 5)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.rnn(self.words(words))
        return self.head(self.drop(hidden[:, -1]))


class PackedClassifier(Classifier):
    def forward(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(
            self.words(words), lengths, batch_first=True, enforce_sorted=False
        )
        hidden, (last, _) = self.rnn(packed)
        padded, _ = pad_packed_sequence(hidden, batch_first=True)
        return self.head(self.drop(last[-1] + padded.mean(1)))


def cross_entropy(labels: torch.Tensor) -> Callable[[Any], torch.Tensor]:
    return lambda out: F.cross_entropy(out, labels)


@case
def lstm_classifier() -> Case:
    words = torch.randint(0, 100, (32, 40))
    return Case(Classifier(), words, cross_entropy(torch.randint(0, 5, (32,))))


@case
def packed_lstm_classifier() -> Case:
    words, lengths = torch.randint(0, 100, (32, 40)), torch.randint(15, 41, (32,))
    return Case(PackedClassifier(), (words, lengths), cross_entropy(torch.randint(0, 5, (32,))))


class Speech(nn.Module):
    """Random spans of time are masked, drawn from Python's and numpy's generators."""

    def __init__(self, width: int = 64, layers: int = 5) -> None:
        super().__init__()
        self.front = nn.Conv1d(20, width, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
            for _ in range(layers)
        )
        self.rnn = nn.GRU(width, width, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.head = nn.Linear(2 * width, 30)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        x = self.front(sound).transpose(1, 2)
        if self.training:
            start = random.randint(0, x.shape[1] // 2)
            span = int(np.random.randint(1, 10))  # noqa: NPY002  (as people do)
            keep = torch.ones(x.shape[1], 1)
            keep[start : start + span] = 0
            x = x * keep
        for layer in self.layers:
            x = layer(x)
        return self.head(self.rnn(x)[0]).log_softmax(-1)


@case
def speech_with_time_masking() -> Case:
    targets, lengths = torch.randint(1, 30, (8, 10)), torch.full((8,), 60)

    def loss(out: torch.Tensor) -> torch.Tensor:
        return F.ctc_loss(out.transpose(0, 1), targets, lengths, torch.full((8,), 10))

    return Case(Speech(), torch.randn(8, 20, 60), loss)


class Cell(nn.Module):
    """Child-sum tree-LSTM cell (Tai et al. 2015)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates, self.forget = nn.Linear(2 * width, 3 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor, states: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = sum((h for h, _ in states), torch.zeros_like(x))
        i, o, u = self.gates(torch.cat([x, hidden], -1)).chunk(3, -1)
        memory = i.sigmoid() * self.drop(u.tanh())
        for h, c in states:
            memory = memory + self.forget(torch.cat([x, h], -1)).sigmoid() * c
        return o.sigmoid() * memory.tanh(), memory


class TreeLSTM(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.words, self.cell = nn.Embedding(50, width), Cell(width)
        self.head = nn.Linear(width, 3)

    def state(self, tree: Any) -> Any:
        word, *children = tree
        return self.cell(self.words(word), [self.state(child) for child in children])

    def forward(self, tree: Any) -> torch.Tensor:
        return self.head(self.state(tree)[0])


def random_tree(depth: int) -> Any:
    children = random.randint(1, 3) if depth else 0
    return (torch.randint(0, 50, (64,)), *(random_tree(depth - 1) for _ in range(children)))


@case
def tree_lstm() -> Case:
    loss = cross_entropy(torch.randint(0, 3, (64,)))
    return Case(TreeLSTM(), (random_tree(5),), loss, level="module")  # every tree another graph


# -- control flow that depends on data -------------------------------------------------------------


class EarlyExit(nn.Module):
    def __init__(self, width: int = 96, layers: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Residual(width) for _ in range(layers))
        self.heads = nn.ModuleList(nn.Linear(width, 4) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, head in zip(self.layers, self.heads):
            x = layer(x)
            out = head(x)
            if out.softmax(-1).amax(-1).mean() > 0.97:
                break
        return out


@case
def early_exit() -> Case:
    return Case(EarlyExit(), torch.randn(256, 96), cross_entropy(torch.randint(0, 4, (256,))))


class Mixture(nn.Module):
    def __init__(self, width: int, experts: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.experts = nn.ModuleList(Residual(width) for _ in range(experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.router(x).softmax(-1)
        best = weights.argmax(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (best == number).nonzero().squeeze(-1)
            if rows.numel() > 0:
                made = expert(x[rows]) * weights[rows, number].unsqueeze(-1)
                out = out.index_add(0, rows, made)
            if rows.numel() > 0 and made.abs().mean().item() > 1e3:
                raise ValueError("diverged")
        return x + out


class Mixtures(nn.Module):
    def __init__(self, width: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Mixture(width) for _ in range(layers))
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@case
def mixture_with_item_routing() -> Case:
    return Case(Mixtures(), torch.randn(512, 64), cross_entropy(torch.randint(0, 4, (512,))))


class Convolution(nn.Module):
    def __init__(self, here: int, there: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(here, there, 3, padding=1), nn.BatchNorm2d(there)
        self.again, self.drop = nn.Conv2d(there, there, 3, padding=1), nn.Dropout2d(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(F.relu(self.again(F.relu(self.norm(self.conv(x))))))


class Detector(nn.Module):
    """Crops of as many boxes as each image has, pooled and classified."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 12, 12, 12, 12]
        self.stages = nn.ModuleList(map(Convolution, widths, widths[1:]))
        self.head = nn.Sequential(
            nn.Linear(12 * 16, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 6)
        )

    def forward(self, images: torch.Tensor, boxes: list[torch.Tensor]) -> torch.Tensor:
        for stage in self.stages:
            images = stage(images)
        pooled = [
            F.adaptive_avg_pool2d(image[:, y : y + h, x : x + w], 4).flatten()
            for image, places in zip(images, boxes)
            for x, y, w, h in places.tolist()
        ]
        return self.head(torch.stack(pooled))


@case
def detection_with_variable_boxes() -> Case:
    boxes = [torch.randint(2, 14, (n, 4)) for n in (3, 0, 5, 2)]
    loss = cross_entropy(torch.randint(0, 6, (10,)))
    return Case(Detector(), (torch.randn(4, 3, 32, 32), boxes), loss)


# -- several losses, second derivatives, breaks ----------------------------------------------------


class ActorCritic(nn.Module):
    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.trunk = nn.ModuleList(Residual(width) for _ in range(6))
        self.policy, self.value = nn.Linear(width, 6), nn.Linear(width, 1)

    def forward(self, seen: torch.Tensor, taken: torch.Tensor) -> dict[str, torch.Tensor]:
        for layer in self.trunk:
            seen = layer(seen)
        choice = torch.distributions.Categorical(logits=self.policy(seen))
        if choice.entropy().mean().item() < 1e-3:
            raise ValueError("the policy has collapsed")
        return {
            "log_prob": choice.log_prob(taken),
            "entropy": choice.entropy(),
            "value": self.value(seen).squeeze(-1),
        }


@case
def ppo_two_heads() -> Case:
    old, gain, reward = torch.randn(256) - 2, torch.randn(256), torch.randn(256)

    def loss(out: dict[str, torch.Tensor]) -> torch.Tensor:
        ratio = (out["log_prob"] - old).exp()
        surrogate = torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
        return (out["value"] - reward).square().mean() - surrogate - out["entropy"].mean() / 100

    return Case(ActorCritic(), (torch.randn(256, 96), torch.randint(0, 6, (256,))), loss)


class Adversaries(nn.Module):
    """Both losses of a GAN in one step; the discriminator is called three times."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.maker = nn.ModuleList(Residual(width) for _ in range(4))
        self.judge = nn.ModuleList(Residual(width) for _ in range(3))
        self.head = nn.Linear(width, 1)

    def score(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.judge:
            x = layer(x)
        return self.head(x)

    def forward(self, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fake = torch.randn_like(real)
        for layer in self.maker:
            fake = layer(fake)
        judged = F.softplus(-self.score(real)).mean() + F.softplus(self.score(fake.detach())).mean()
        made = F.softplus(-self.score(fake)).mean()
        if not np.isfinite(made.item()):
            raise ValueError("diverged")
        return judged, made


@case
def gan_step() -> Case:
    return Case(Adversaries(), torch.randn(256, 64), lambda out: out[0] + out[1])


class Penalised(nn.Module):
    """The critic of a WGAN with its gradient penalty (Gulrajani et al. 2017)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.critic = nn.ModuleList(Residual(width, 0.1) for _ in range(6))
        self.head = nn.Linear(width, 1)

    def score(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.critic:
            x = layer(x)
        return self.head(x)

    def forward(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        distance = self.score(fake).mean() - self.score(real).mean()
        between = torch.lerp(real, fake, torch.rand(len(real), 1)).requires_grad_()
        (slope,) = torch.autograd.grad(self.score(between).sum(), between, create_graph=True)
        return distance + 10 * (slope.norm(2, -1) - 1).square().mean()


@case
def gradient_penalty() -> Case:
    return Case(Penalised(), (torch.randn(256, 64), torch.randn(256, 64)))


class Printing(nn.Module):
    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Residual(width) for _ in range(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number == 3:
                scale = float(np.linalg.norm(x.detach().numpy()))
                x = x / max(scale, 1.0)
        return x.square().mean()


@case
def graph_break() -> Case:
    return Case(Printing(), torch.randn(256, 96))
