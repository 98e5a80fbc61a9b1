"""Every op that runs, seen by Python: for counting what it makes."""

from __future__ import annotations

# The public way to see ops below autograd has this private address.
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode"]
