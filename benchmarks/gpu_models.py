"""The models of `gpu.py`: thirteen of the zoo, with batches that fill a part of a card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from models import ZOO
from torch import nn

from pebble.tracing.inputs import make_inputs
from pebble.tracing.resized_inputs import resized

MODELS = (
    "gpt2_dropout", "resnet", "llama_small", "bert_dropout", "vit", "t5", "unet", "llama_lora",
    "autocast_mlp", "convnext", "mixtral", "bart", "opt",
)  # fmt: skip
CLOSELY = MODELS[:3]
"""Those that are also run at a cap, compared bit for bit, timed and recorded."""
TINY = MODELS[:2]
ENLARGED = 16
"""Times the zoo's batch, on a card."""


def made(name: str, device: str, *, tiny: bool) -> tuple[nn.Module, dict[str, Any]]:
    """A model and its keyword inputs on a device; seeded, the same everywhere."""
    model, inputs = ZOO[name]()
    if not tiny:
        batch = max(t.shape[0] for t in inputs.values())
        inputs = dict(resized(make_inputs(model, inputs), ENLARGED * batch).kwargs)
    return model.to(device), {key: tensor.to(device) for key, tensor in inputs.items()}


def loss_of(output: Any) -> torch.Tensor:
    """The scalar of what a model returns."""
    found: torch.Tensor = output if torch.is_tensor(output) else output.loss
    return found


def trainer(
    runs: Callable[..., Any], model: nn.Module, inputs: dict[str, Any]
) -> Callable[[], None]:
    """A whole training step with AdamW: forward, backward, the optimizer's step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])

    def step() -> None:
        loss_of(runs(**inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
