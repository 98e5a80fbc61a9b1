"""Models whose step is more than a body and its loss: an auto-encoder, two players, a detector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from model_registry import Made, Maker, registry
from torch import nn

MODELS: dict[str, Maker] = {}
entry = registry(MODELS)


class AutoEncoder(nn.Module):
    """A convolutional VAE, which draws its code in the forward."""

    def __init__(self, width: int = 16, code: int = 24) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(),
        )  # fmt: skip
        self.moments = nn.Linear(64 * width, 2 * code)
        self.lift = nn.Linear(code, 64 * width)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (4 * width, 4, 4)),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        mean, log_variance = self.moments(self.encoder(x)).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        logits = self.decoder(self.lift(z))
        likeness = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = -0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp())
        return {"loss": (likeness + divergence) / len(x), "image": logits.sigmoid()}


@entry
def vae() -> Made:
    return AutoEncoder(), {"x": torch.rand(8, 3, 32, 32)}


class Adversaries(nn.Module):
    """The step of a GAN: each player's loss moves its own weights alone."""

    def __init__(self, width: int = 16, code: int = 32) -> None:
        super().__init__()
        self.code = code
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(code, 4 * width, 4), nn.BatchNorm2d(4 * width), nn.ReLU(True),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2, True), nn.Dropout(0.3), nn.Conv2d(4 * width, 1, 4), nn.Flatten(),
        )  # fmt: skip

    def forward(self, real: torch.Tensor) -> dict[str, torch.Tensor]:
        made = self.generator(torch.randn(len(real), self.code, 1, 1, device=real.device))
        told_real = self.discriminator(real)
        told_made = self.discriminator(made.detach())
        told = torch.cat([told_real, told_made])
        truth = torch.cat([torch.full_like(told_real, 0.9), torch.zeros_like(told_made)])
        detecting = F.binary_cross_entropy_with_logits(told, truth)
        # The generator's loss goes through a discriminator that stands still.
        held = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        judged = torch.func.functional_call(self.discriminator, held, (made,))
        deceiving = F.softplus(-judged).mean()
        return {
            "loss": detecting + deceiving,
            "detecting": detecting.detach(),
            "deceiving": deceiving.detach(),
        }


@entry
def gan() -> Made:
    return Adversaries(), {"real": torch.rand(8, 3, 32, 32) * 2 - 1}


class Detector(nn.Module):
    """A detector without anchors: a pyramid, one head for all its levels, focal and box losses.

    Targets are of fixed size: for every place of every level a class (`classes`: none), the
    distances to the four sides of its box, and whether there is one.
    """

    STRIDES = (4, 8, 16)

    def __init__(self, width: int = 16, classes: int = 5) -> None:
        super().__init__()
        w = [width, 2 * width, 4 * width, 4 * width]

        def down(inner: int, outer: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inner, outer, 3, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(True)
            )

        def tower() -> nn.Sequential:
            layers: list[nn.Module] = []
            for _ in range(2):
                layers += [nn.Conv2d(32, 32, 3, 1, 1), nn.GroupNorm(4, 32), nn.ReLU(True)]
            return nn.Sequential(*layers)

        self.stem = down(3, w[0])
        self.stages = nn.ModuleList(down(w[i], w[i + 1]) for i in range(3))
        self.lateral = nn.ModuleList(nn.Conv2d(w[i + 1], 32, 1) for i in range(3))
        self.naming, self.boxing = tower(), tower()
        self.name = nn.Conv2d(32, classes, 3, 1, 1)
        self.box = nn.Conv2d(32, 4, 3, 1, 1)
        self.centre = nn.Conv2d(32, 1, 3, 1, 1)
        self.scales = nn.Parameter(torch.ones(3))
        nn.init.constant_(self.name.bias, -4.6)  # at first nothing is found anywhere

    def pyramid(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features of each level, the finest first."""
        x, levels = self.stem(image), []
        for stage, lateral in zip(self.stages, self.lateral):
            x = stage(x)
            levels.append(lateral(x))
        for i in (1, 0):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
        return levels

    def forward(
        self, image: torch.Tensor, names: torch.Tensor, sides: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        told, boxes, centres = [], [], []
        for i, level in enumerate(self.pyramid(image)):
            named, boxed = self.naming(level), self.boxing(level)
            told.append(self.name(named).flatten(2))
            boxes.append((F.relu(self.box(boxed) * self.scales[i]) * self.STRIDES[i]).flatten(2))
            centres.append(self.centre(boxed).flatten(2))
        logits = torch.cat(told, 2).transpose(1, 2)
        box = torch.cat(boxes, 2).transpose(1, 2)
        centre = torch.cat(centres, 2).squeeze(1)
        there = names < logits.shape[2]
        naming = focal_loss(logits, names) / there.sum().clamp(min=1)
        good = centredness(sides)
        weight = torch.where(there, good, 0.0)
        boxing = (box_loss(box, sides) * weight).sum() / weight.sum().clamp(min=1e-6)
        centring = F.binary_cross_entropy_with_logits(centre, good, reduction="none")
        centring = (centring * there).sum() / there.sum().clamp(min=1)
        return {"loss": naming + boxing + centring, "naming": naming, "boxing": boxing}


def focal_loss(logits: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    """The focal loss of Lin et al. (2017), summed; names beyond the classes are of no class."""
    classes = logits.shape[-1]
    truth = F.one_hot(names, classes + 1)[..., :classes].to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    p = logits.sigmoid()
    right = p * truth + (1 - p) * (1 - truth)
    return ((0.25 * truth + 0.75 * (1 - truth)) * (1 - right).pow(2.0) * entropy).sum()


def box_loss(found: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """One less the generalised overlap of boxes given as left, top, right, bottom of a place."""

    def area(box: torch.Tensor) -> torch.Tensor:
        return (box[..., 0] + box[..., 2]) * (box[..., 1] + box[..., 3])

    both = area(torch.minimum(found, sides))
    either = area(found) + area(sides) - both
    hull = area(torch.maximum(found, sides))
    return 1 - (both / either.clamp(min=1e-6) - (hull - either) / hull.clamp(min=1e-6))


def centredness(sides: torch.Tensor) -> torch.Tensor:
    """How far a place is from the sides of its box: one in its middle, of Tian et al. (2019)."""
    across, along = sides[..., [0, 2]], sides[..., [1, 3]]
    ratio = across.amin(-1) / across.amax(-1) * (along.amin(-1) / along.amax(-1))
    return ratio.clamp(min=0).sqrt()


@entry
def detector() -> Made:
    places = sum((64 // stride) ** 2 for stride in Detector.STRIDES)
    names = torch.where(torch.rand(4, places) < 0.2, torch.randint(0, 5, (4, places)), 5)
    return Detector(), {
        "image": torch.randn(4, 3, 64, 64),
        "names": names,
        "sides": 1 + 15 * torch.rand(4, places, 4),
    }
