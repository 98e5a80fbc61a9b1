"""Models in plain torch: convolutions, recurrences, casts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from model_registry import Made, Maker, WithLoss, registry
from torch import nn

MODELS: dict[str, Maker] = {}
entry = registry(MODELS)


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm and in-place ReLU."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inner != outer:
            self.skip = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(y)) + self.skip(x))


def resnet_body() -> nn.Sequential:
    """A ResNet of six blocks."""
    widths = [(16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        *[ResidualBlock(*w) for w in widths],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


@entry
def resnet() -> Made:
    return WithLoss(resnet_body(), F.cross_entropy), {
        "x": torch.randn(8, 3, 32, 32),
        "y": torch.randint(0, 10, (8,)),
    }


class UNet(nn.Module):
    """Three levels down, three up, with long skips by concatenation."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()

        def double(inner: int, outer: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inner, outer, 3, padding=1), nn.GroupNorm(4, outer), nn.SiLU(),
                nn.Conv2d(outer, outer, 3, padding=1), nn.GroupNorm(4, outer), nn.SiLU(),
            )  # fmt: skip

        w = [width * 2**k for k in range(4)]
        self.down = nn.ModuleList([double(3, w[0]), double(w[0], w[1]), double(w[1], w[2])])
        self.middle = double(w[2], w[3])
        self.lift = nn.ModuleList(
            [nn.ConvTranspose2d(w[k + 1], w[k], 2, stride=2) for k in (2, 1, 0)]
        )
        self.up = nn.ModuleList([double(2 * w[k], w[k]) for k in (2, 1, 0)])
        self.head = nn.Conv2d(w[0], 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for lift, block in zip(self.lift, self.up):
            x = block(torch.cat([lift(x), skips.pop()], 1))
        return self.head(x)


@entry
def unet() -> Made:
    x = torch.randn(2, 3, 64, 64)
    return WithLoss(UNet(), F.mse_loss), {"x": x, "y": torch.randn_like(x)}


class UnrolledLSTM(nn.Module):
    """An LSTMCell over time, as a loop that unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(32, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[1], 64)
        for step in x:
            h, c = self.cell(step, (h, c))
        return self.head(h)


@entry
def lstm_cell() -> Made:
    return WithLoss(UnrolledLSTM(), F.cross_entropy), {
        "x": torch.randn(16, 32, 32),
        "y": torch.randint(0, 5, (32,)),
    }


class Autocast(nn.Module):
    """A model whose forward runs under bfloat16 autocast."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = self.body(x)
        return F.mse_loss(out.float(), y)


@entry
def autocast_mlp() -> Made:
    layers: list[nn.Module] = []
    for _ in range(6):
        layers += [nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128), nn.LayerNorm(128)]
    return Autocast(nn.Sequential(*layers)), {
        "x": torch.randn(256, 128),
        "y": torch.randn(256, 128),
    }
