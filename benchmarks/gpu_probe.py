"""What a device is: versions, attention kernels beside our table, bytes of libraries."""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import version
from typing import Any

import torch

from pebble.measure.memory import context_overhead, library_workspace
from pebble.tracing.attention_kernels import Attention, Libraries, kernel_for

BACK_ENDS = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn", 4: "overrideable"}


def attention_cases(device: torch.device) -> list[tuple[str, Attention]]:
    """Twenty-four: three dtypes, two widths of heads, four kinds of calls."""
    found = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for width in (64, 72):
            x = torch.zeros(2, 4, 128, width, dtype=dtype, device=device, requires_grad=True)
            mask = torch.zeros(2, 1, 128, 128, dtype=dtype, device=device)
            kinds = {
                "plain": {}, "causal": {"causal": True}, "mask": {"mask": mask},
                "dropout": {"dropout": 0.1},
            }  # fmt: skip
            for kind, more in kinds.items():
                call = Attention(x, x, x, **more)  # type: ignore[arg-type]
                found.append((f"{str(dtype)[6:]}, width {width}, {kind}", call))
    return found


def probe(row: dict[str, Any]) -> dict[str, Any]:
    """Versions, the kernel of each case, what cuBLAS and the context take."""
    device = torch.device(row["device"])
    on_card = device.type == "cuda"
    packages = ("torch", "transformers", "numpy", "numba")
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": {p: version(p) for p in packages if importlib.util.find_spec(p)},
        "device": torch.cuda.get_device_name(device) if on_card else "cpu",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_card else None,
        "attention": attention(device),
    }
    return found | (memory(device) if on_card else {})


def attention(device: torch.device) -> list[dict[str, Any]]:
    """The kernel that torch takes for each case, and on a card the one of our table."""
    rows = []
    for name, call in attention_cases(device):
        chosen = torch._fused_sdp_choice(
            call.query, call.key, call.value, call.mask, call.dropout, call.causal
        )
        entry: dict[str, Any] = {"case": name, "torch": BACK_ENDS[int(chosen)]}
        if device.type == "cuda":
            major, minor = torch.cuda.get_device_capability(device)
            release = tuple(map(int, torch.__version__.split(".")[:2]))
            libraries = Libraries(release, torch.backends.cudnn.version() or 0)  # type: ignore[arg-type]
            entry["table"] = kernel_for(call, 10 * major + minor, libraries)
        rows.append(entry)
    return rows


def memory(device: torch.device) -> dict[str, Any]:
    """What the context takes, and what a handle of cuBLAS does, beside the table's figure."""
    context = context_overhead(str(device))
    x = torch.ones(256, 256, device=device)
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    made = x @ x
    torch.cuda.synchronize(device)
    taken = torch.cuda.memory_stats(device)["requested_bytes.all.current"] - before
    return {
        "context_bytes": context,
        "cublas_handle_bytes": taken - made.numel() * made.itemsize,
        "cublas_table_bytes": library_workspace(str(device)),
        "total_bytes": torch.cuda.get_device_properties(device).total_memory,
    }
