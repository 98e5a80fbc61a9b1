"""What each module saves for the backward, what it computes again, and at which price."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pebble.graph import Graph
from pebble.plan.figures import PlanView
from pebble.plan.module_groups import module_groups


@dataclass(frozen=True)
class ModuleShare:
    """A group of alike modules in a plan.

    Attributes
    ----------
    group : str
        Such as ``h.*.mlp``.
    modules : int
        How many of them there are.
    unplanned_bytes, saved_bytes : int
        In memory when the backward begins, without the plan and with it.
    fixed_bytes : int
        What of the saved no plan can free: outputs of the step, and what may run only once.
    again : int
        Extra executions of its ops.
    again_ns : int
        Their time.
    kept_ns : int
        The time of the ops that made the rest of what is saved: the least that computing it
        again would take.
    """

    group: str
    modules: int
    unplanned_bytes: int
    saved_bytes: int
    fixed_bytes: int
    again: int
    again_ns: int
    kept_ns: int

    @property
    def freed_bytes(self) -> int:
        """What the plan takes off the saved bytes; negative where it saves more."""
        return self.unplanned_bytes - self.saved_bytes

    @property
    def paid_ns_per_gb(self) -> float | None:
        """Time of what is computed again for each GB that it frees; None where it frees nothing."""
        return self.again_ns / self.freed_bytes * 1e9 if self.freed_bytes > 0 else None

    @property
    def spared_ns_per_gb(self) -> float | None:
        """The least time that each GB of what is saved would take to be computed again."""
        free = self.saved_bytes - self.fixed_bytes
        return self.kept_ns / free * 1e9 if free > 0 else None


def module_shares(view: PlanView) -> tuple[ModuleShare, ...]:
    """Every group of modules that saves or computes again something, largest first."""
    graph = view.graph
    groups = module_groups(graph.ops)
    before, after = (
        _saved_by_group(graph, groups, trace.saved) for trace in (view.baseline, view.trace)
    )
    members: dict[str, set[str]] = defaultdict(set)
    for op, group in zip(graph.ops, groups):
        members[group].add(op.module)
    again: dict[str, int] = defaultdict(int)
    again_ns: dict[str, int] = defaultdict(int)
    for i, times in enumerate(view.schedule.executions(len(graph.ops)).tolist()):
        if times > 1:
            again[groups[i]] += times - 1
            again_ns[groups[i]] += (times - 1) * graph.ops[i].cost
    free = [v for v in view.trace.saved if _may_be_freed(graph, v)]
    kept_ns = _makers_ns(graph, groups, free)
    free_bytes = _saved_by_group(graph, groups, free)
    shares = [
        ModuleShare(
            group, len(members[group]), before[group], after[group],
            after[group] - free_bytes[group], again[group], again_ns[group], kept_ns[group],
        )
        for group in members
        if before[group] or after[group] or again[group]
    ]  # fmt: skip
    return tuple(sorted(shares, key=lambda s: (-max(s.unplanned_bytes, s.saved_bytes), s.group)))


def _saved_by_group(graph: Graph, groups: list[str], saved: Iterable[int]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for v in saved:
        found[groups[int(graph.arrays.producer[v])]] += graph.values[v].size
    return found


def _may_be_freed(graph: Graph, v: int) -> bool:
    return not graph.values[v].pinned and graph.ops[int(graph.arrays.producer[v])].recomputable


def _makers_ns(graph: Graph, groups: list[str], saved: Iterable[int]) -> dict[str, int]:
    """Time of the ops that make what is saved, each op once."""
    found: dict[str, int] = defaultdict(int)
    for i in {int(graph.arrays.producer[v]) for v in saved}:
        found[groups[i]] += graph.ops[i].cost
    return found
