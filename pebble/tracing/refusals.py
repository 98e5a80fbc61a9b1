"""What stops a capture, told with the place and what to do about it."""

from __future__ import annotations

import re
import traceback
from pathlib import Path


def explain(error: BaseException) -> tuple[str, str]:
    """What stopped a capture and where: the first sentence of torch's message, and file:line."""
    where = ""
    # Dynamo keeps the user's frames apart from its own.
    stack = getattr(error, "real_stack", None)
    if stack:
        where = f"{stack[-1].filename}:{stack[-1].lineno}"
    text = str(getattr(error, "msg", "") or error)
    if not where:
        found = re.findall(r'File "([^"]+)", line (\d+)', str(error))
        where = ":".join(found[-1]) if found else _innermost(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    what = lines[0] if lines else type(error).__name__
    if len(lines) > 1 and lines[1].startswith("Explanation:"):
        what += ": " + lines[1].removeprefix("Explanation:").strip()
    return what.rstrip("."), where


def _innermost(error: BaseException) -> str:
    """The last frame outside of torch, if any."""
    here = str(Path(__file__).parents[2])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename and not frame.filename.startswith(here)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
