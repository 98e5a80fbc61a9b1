"""Where an op comes from: the module whose forward it is part of, and the line of Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from torch import fx

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*(?:\n    ([^\n]*))?')
_PACKAGES = ("site-packages/", "dist-packages/")
_LONGEST = 80
"""Characters of a line of code that are kept."""


def module_path(node: fx.Node) -> str:
    """Path of the module whose forward a node is part of, such as ``transformer.h.0.mlp``."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack")
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return tidy_path(path)


def tidy_path(path: str) -> str:
    """Dynamo writes ``L['self'].layers.0`` or ``L['self']._modules['layers']``.

    Examples
    --------
    >>> tidy_path("L['self'].layers.0"), tidy_path("L['self']._modules['layers']._modules['0']")
    ('layers.0', 'layers.0')
    """
    _, _, inner = path.partition("]")
    for junk in ("._modules", "['", "']", "[", "]"):
        inner = inner.replace(junk, "." if "[" in junk else "")
    return ".".join(part for part in inner.split(".") if part not in ("", "_held"))


def source_line(node: fx.Node) -> str:
    """The line of Python that a node comes from, such as ``model.py:12: x = self.mlp(x)``.

    The innermost line that is not torch's own; the file without what is above its package, or
    above the folder that holds it. Empty where nothing is known.
    """
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    if not frames:
        return ""
    theirs = [frame for frame in frames if not short_path(frame[0]).startswith("torch/")]
    path, line, code = (theirs or frames)[-1]
    text = f"{short_path(path)}:{line}"
    return sys.intern(f"{text}: {_cut(code.strip())}" if code.strip() else text)


def short_path(path: str) -> str:
    """A file as it is shown: within its package, else with the folder that it stands in.

    Examples
    --------
    >>> short_path("/usr/lib/site-packages/torch/nn/modules/linear.py")
    'torch/nn/modules/linear.py'
    >>> short_path("/home/me/work/train.py"), short_path("/tmp/ipykernel_31/2291.py")
    ('work/train.py', 'notebook cell')
    """
    path = path.replace("\\", "/")
    for packages in _PACKAGES:
        _, found, inside = path.rpartition(packages)
        if found:
            return inside
    if "/ipykernel_" in path:
        return "notebook cell"
    return "/".join(Path(path).parts[-2:]).replace("//", "/")


def _cut(code: str) -> str:
    return code if len(code) <= _LONGEST else code[: _LONGEST - 3] + "..."
