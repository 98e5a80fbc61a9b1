"""Hooks that mark an activation as requiring a gradient, for checkpointing of frozen models."""

from __future__ import annotations

from typing import Any

_NAMES = ("make_inputs_require_grad", "make_inputs_require_grads")  # peft's, transformers'


def marks_activations(hook: Any) -> bool:
    """Whether a forward hook does nothing but ``output.requires_grad_(True)``.

    ``model.enable_input_require_grads()`` installs one, and so do gradient checkpointing and
    adapters. It changes no parameter's gradient: a plan may leave it out.

    Examples
    --------
    >>> marks_activations(print)
    False
    """
    return getattr(hook, "__name__", None) in _NAMES
