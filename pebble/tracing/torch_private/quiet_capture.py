"""The surroundings of a trace: what it must not print, draw, collect or leave behind."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from pebble.collection import without_collection
from pebble.tracing.torch_private.card_tables import backward_in_this_thread, is_pretended
from pebble.tracing.torch_private.older_releases import unlogged_settings
from pebble.tracing.torch_private.real_layouts import real_layouts


@contextlib.contextmanager
def quiet_capture() -> Iterator[None]:
    """Gradients on, and no trace afterwards: warnings, random state, dynamo's configuration.

    Garbage collection waits: it takes a third of the time of tracing a large model, whose graphs
    it visits again and again and finds alive.
    """
    # A call of a logger would break the graph; its text has no part in a training step.
    from torch._dynamo import config

    loggers: set[Any] = {
        getattr(logging.Logger, name)
        for name in (
            "debug", "info", "warning", "error", "exception", "critical", "log",
            "warning_once", "info_once", "warning_advice",
        )
        if hasattr(logging.Logger, name)
    }  # fmt: skip
    loggers |= {print, warnings.warn}
    with (
        real_layouts(),
        torch.inference_mode(False),
        backward_in_this_thread() if is_pretended() else contextlib.nullcontext(),
        torch.enable_grad(),
        _kept_random_state(),
        without_collection(),
        _no_tracebacks(),
        unlogged_settings(),
        warnings.catch_warnings(),
        config.patch(
            ignore_logging_functions=loggers | set(config.ignore_logging_functions),
            # a plan holds for one shape: no number of the model may become a symbol
            specialize_int=True,
            specialize_float=True,
            assume_static_by_default=True,
            automatic_dynamic_shapes=False,
        ),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _no_tracebacks() -> Iterator[None]:
    """Without torch's log of what fails on fake tensors: the error says it, in one sentence."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextlib.contextmanager
def _kept_random_state() -> Iterator[None]:
    started = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if started else []
    with torch.random.fork_rng(devices=devices):
        yield
