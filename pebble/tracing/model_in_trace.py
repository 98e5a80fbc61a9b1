"""A model while it is traced: as its own forward sees it, and afterwards what it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from pebble.tracing.hidden_state_recorders import is_recorder, recorders_in_place
from pebble.tracing.plannable import plain_parts
from pebble.tracing.torch_private.modules import drop_hooks, hooks_kept
from pebble.tracing.torch_private.quiet_capture import quiet_capture


@contextlib.contextmanager
def in_trace(model: nn.Module) -> Iterator[None]:
    """Within it the model can be traced."""
    with quiet_capture(), plain_parts(model), _outer_hooks_off(model), recorders_in_place(model):
        yield


def works_in_the_graph(hook: Any) -> bool:
    """Whether a hook's work is a part of the graph.

    weight_norm and spectral_norm compute the weight; Hugging Face's recorders hand hidden states
    to the output, and are installed by the first forward.
    """
    return is_recorder(hook) or type(hook).__module__.startswith("torch.nn.utils.")


@contextlib.contextmanager
def _outer_hooks_off(model: nn.Module) -> Iterator[None]:
    """Without hooks on the whole model: they run around a planned call, and must not run in it."""
    with hooks_kept(model):
        drop_hooks(model, lambda hook: not works_in_the_graph(hook))
        yield
