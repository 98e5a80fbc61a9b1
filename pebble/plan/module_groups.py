"""Modules that are alike as one group: ``h.*.mlp`` for all of ``h.0.mlp`` to ``h.11.mlp``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pebble.graph import Op, Phase
from pebble.plan.peak_moment import op_word

NO_MODULE = "(no module)"


def module_groups(ops: Sequence[Op]) -> list[str]:
    """The group of each op's module.

    Numbered modules that stand side by side and hold the same kinds of ops in the forward are one
    group, with ``*`` for their number.

    Examples
    --------
    >>> from pebble.graph import Op
    >>> alike = [Op(f"o{i}", 1, kind="aten.mm.default", module=f"h.{i}.mlp") for i in (0, 1)]
    >>> module_groups([*alike, Op("last", 1, module="head"), Op("boundary", 0)])
    ['h.*.mlp', 'h.*.mlp', 'head', '(no module)']
    """
    names = {path: path.split(".") for path in {op.module for op in ops} if path}
    contents: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for op in ops:
        if not op.module or op.phase is not Phase.FORWARD:
            continue
        parts = names[op.module]
        for depth, part in enumerate(parts):
            if part.isdecimal():
                inside = ".".join(parts[depth + 1 :])
                contents[".".join(parts[: depth + 1])].add((inside, op_word(op)))
    twins: dict[tuple[str, frozenset[tuple[str, str]]], int] = defaultdict(int)
    for path, inside_of in contents.items():
        twins[path.rpartition(".")[0], frozenset(inside_of)] += 1

    def starred(path: str) -> str:
        parts = names[path]
        shown = []
        for depth, part in enumerate(parts):
            prefix = ".".join(parts[: depth + 1])
            key = (prefix.rpartition(".")[0], frozenset(contents.get(prefix, ())))
            shown.append("*" if part.isdecimal() and twins.get(key, 0) > 1 else part)
        return ".".join(shown)

    groups = {path: starred(path) for path in names}
    return [groups.get(op.module, NO_MODULE) for op in ops]
