"""Autograd's engine: ops below it, what it is about to do, and what it knows of a tensor."""

from __future__ import annotations

from typing import Any

import torch


def below_autograd() -> Any:
    """A context in which ops run without autograd's bookkeeping: halves bring their backward."""
    # Saves about half a microsecond an op; `no_grad` alone still passes autograd's kernels.
    return torch._C._AutoDispatchBelowAutograd()


def adds_up(leaf_node: Any) -> bool:
    """Whether the backward that is running will add to a leaf's gradient.

    It does under ``backward()``; not under ``torch.autograd.grad``, nor where ``inputs=`` leaves
    this leaf out.
    """
    # The engine knows; nothing public tells. It refuses to say so of a leaf in autograd.grad.
    try:
        return bool(torch._C._will_engine_execute_node(leaf_node))
    except RuntimeError:
        return False


def has_hooks(leaf: torch.Tensor) -> bool:
    """Whether somebody wants to see a leaf's gradient when it is made or added up."""
    # Hooks are registered in public and listed nowhere.
    return bool(leaf._backward_hooks) or bool(getattr(leaf, "_post_accumulate_grad_hooks", None))


def has_node_hooks(node: Any) -> bool:
    """Whether somebody wants to see what goes into an autograd node, or comes out of it."""
    return any(_hooks_by(register) for register in (node.register_prehook, node.register_hook))


def _hooks_by(register: Any) -> bool:
    # Hooks are listed nowhere, but the handle of a new one knows the dictionary of them all.
    handle = register(None)
    found = len(handle.hooks_dict_ref()) > 1
    handle.remove()
    return found


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor's contents were changed in place."""
    # What autograd itself compares; any public check needs a backward.
    return tensor._version
