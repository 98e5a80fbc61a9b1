"""DistributedDataParallel: which wrapper's forward is running."""

from __future__ import annotations

from typing import Any


def active_wrapper() -> Any:
    """The DistributedDataParallel whose forward is running; None outside of one."""
    from torch.nn.parallel import DistributedDataParallel

    # Noted for torch's own compiler; nothing public tells the module inside who calls it.
    return getattr(DistributedDataParallel, "_active_ddp_module", None)
