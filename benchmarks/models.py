"""The zoo: models that the benchmarks plan, measure and compare, small enough to run on a CPU."""

from __future__ import annotations

import language_models
import loss_models
import plain_models
import vision_audio_models
from model_registry import Made, Maker, WithLoss, language

ZOO: dict[str, Maker] = {
    **language_models.MODELS,
    **vision_audio_models.MODELS,
    **plain_models.MODELS,
    **loss_models.MODELS,
}

__all__ = ["ZOO", "Made", "Maker", "WithLoss", "language"]
