"""What a compiled step takes while it runs: one forward and backward on its own inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from pebble.measure.allocator import trace_memory
from pebble.runtime.random_states import random_states_kept


def measured_peak(run: Callable[..., Any], inputs: Sequence[Any], device: str) -> int:
    """Bytes beyond the inputs that one forward and backward of a compiled step holds at most.

    Gradients become those of the parameters, as on a first micro-batch; outputs are held until
    then. Inputs that the step writes to and the random states are as before afterwards.

    Parameters
    ----------
    run : callable
        Takes the inputs one by one, returns tensors.
    inputs : sequence
        Those that require gradients get none.
    device : str
    """
    leaves = [_leaf(value) for value in inputs]

    def step() -> None:
        made = run(*leaves)
        roots = [t for t in made if isinstance(t, torch.Tensor) and t.requires_grad]
        seeds = [torch.ones_like(root) for root in roots]
        torch.autograd.backward(roots, seeds)

    with random_states_kept(torch.device(device)), _contents_kept(leaves), torch.enable_grad():
        return trace_memory(step, device).peak


def _leaf(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().requires_grad_(value.requires_grad)


@contextlib.contextmanager
def _contents_kept(leaves: Sequence[Any]) -> Iterator[None]:
    """Tensors without gradients hold afterwards what they held before."""
    # An optimizer alone writes to what requires gradients. `.data` keeps the version as it was:
    # a graph of autograd may have saved the tensor.
    tensors = (leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
    kept = [(leaf, leaf.data.clone()) for leaf in tensors if not leaf.requires_grad]
    try:
        yield
    finally:
        for leaf, before in kept:
            if not torch.equal(leaf.data, before):
                leaf.data.copy_(before)
