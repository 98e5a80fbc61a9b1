"""The model inside of DistributedDataParallel, and a planned one put in its place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import nn

from pebble.tracing.torch_private.data_parallel import active_wrapper

if TYPE_CHECKING:
    from torch.nn.parallel import DistributedDataParallel


def is_data_parallel(model: Any) -> TypeGuard[DistributedDataParallel]:
    """Whether a model is wrapped in DistributedDataParallel."""
    home = _home()
    return home is not None and isinstance(model, home.DistributedDataParallel)


def running_data_parallel() -> DistributedDataParallel | None:
    """The wrapper whose forward is running; None outside of one."""
    return None if _home() is None else active_wrapper()


def inside(model: Any) -> Any:
    """The model that DistributedDataParallel wraps; anything else is itself."""
    return model.module if is_data_parallel(model) else model


def put_inside(model: nn.Module, planned: nn.Module) -> nn.Module:
    """What trains: the planned module, or the wrapper of the model with the planned one in it.

    The wrapper keeps its own forward, its buckets and its hooks, which are on the parameters.
    """
    if not is_data_parallel(model):
        return planned
    model.module = planned
    return model


def _home() -> Any:
    # Nobody has a wrapper without having imported it, which may take longer than a small capture.
    return sys.modules.get("torch.nn.parallel.distributed")
