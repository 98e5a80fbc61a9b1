"""Whose code a model is: another release of it may compute the same by other ops."""

from __future__ import annotations

import sys

from torch import nn


def transformers_of(model: nn.Module) -> str | None:
    """The release of transformers that code of the model is from; None where none of it is."""
    library = sys.modules.get("transformers")
    if library is None:
        return None
    homes = {type(module).__module__.partition(".")[0] for module in model.modules()}
    return str(library.__version__) if "transformers" in homes else None
