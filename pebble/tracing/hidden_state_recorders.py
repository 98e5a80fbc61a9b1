"""Recorders of hidden states in Hugging Face models: put in before a trace, taken out after it.

Models that collect hidden states or attentions install forward hooks in their first forward,
behind a lock that a tracer cannot enter. With the hooks in place that forward is one graph.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

from pebble.tracing.torch_private.modules import forward_hooks

MODULE = "transformers.utils.output_capturing"
_FLAG = "_output_capturing_hooks_installed"


def is_recorder(hook: Any) -> bool:
    """Whether a forward hook is one of these."""
    return getattr(hook, "__module__", None) == MODULE


@contextlib.contextmanager
def recorders_in_place(model: nn.Module) -> Iterator[None]:
    """Within it the model has the hooks that its first forward would install, each once."""
    install = getattr(sys.modules.get(MODULE), "maybe_install_capturing_hooks", None)
    models = [] if install is None else _outermost(model)
    inside = [module for root in models for module in root.modules()]
    before = [(module, dict(forward_hooks(module)), _FLAG in vars(module)) for module in inside]
    try:
        for module, hooks, _ in before:
            # installing on a model installs on those within it again: begin with none
            for key in [key for key, hook in hooks.items() if is_recorder(hook)]:
                del forward_hooks(module)[key]
            vars(module).pop(_FLAG, None)
        for root in models:
            assert install is not None
            install(root)
        yield
    finally:
        for module, hooks, flagged in before:
            forward_hooks(module).clear()
            forward_hooks(module).update(hooks)
            vars(module).pop(_FLAG, None)
            if flagged:
                setattr(module, _FLAG, True)


def _outermost(model: nn.Module) -> list[Any]:
    """Hugging Face models that are in no other one."""
    # Not there where others have imported parts of transformers only.
    family = getattr(sys.modules.get("transformers.modeling_utils"), "PreTrainedModel", None)
    if family is None:
        return []
    if isinstance(model, family):
        return [model]
    return [found for child in model.children() for found in _outermost(child)]
