"""How much memory a device has left for what is run beside a training loop."""

from __future__ import annotations

from pathlib import Path

import torch

_SHARE = 0.8  # of it may be taken: other programs live there, too


def room_bytes(device: torch.device) -> int | None:
    """Bytes that may still be taken on a device; None where nobody tells.

    Examples
    --------
    >>> room_bytes(torch.device("meta")) is None
    True
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_SHARE * (free + idle))
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return int(_SHARE * 1024 * kilobytes[0]) if kilobytes else None
