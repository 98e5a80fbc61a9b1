"""Which sizes of a call's inputs vary, and which of them vary together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private.pytree import call_leaves, tree_map_only

Place = tuple[str, int]
"""A dimension of an input: its path, such as ``kwargs['input_ids']``, and which one."""
Sizes = Mapping[Place, int]
Group = tuple[Place, ...]
"""Dimensions that are always of one size: a single symbol."""
MOST_KEPT = 64
"""Calls of a form whose sizes are remembered."""


@dataclass(frozen=True)
class OpenSizes:
    """Dimensions to leave open, and sizes at which they can be told apart.

    Attributes
    ----------
    groups : tuple of Group
    example : mapping of Place to int
        A size of at least 2 for each of these dimensions, another one for each group.
    """

    groups: tuple[Group, ...]
    example: Sizes

    @classmethod
    def of(cls, groups: Iterable[Group], now: Sizes, known: Sequence[Sizes] = ()) -> OpenSizes:
        """Those groups that can be left open at the sizes of a call: none of 0 or 1.

        Sizes that two groups share by chance are taken from another call, or made up.
        """
        wide = tuple(group for group in groups if now[group[0]] > 1)
        for sizes in (now, *known):
            found = [sizes[group[0]] for group in wide]
            if len(set(found)) == len(found) and min(found, default=2) > 1:
                return cls(wide, {place: sizes[place] for group in wide for place in group})
        made: dict[Place, int] = {}
        for group in wide:
            size = now[group[0]]
            while size in made.values():
                size += 1
            made |= dict.fromkeys(group, size)
        return cls(wide, made)

    @property
    def dimensions(self) -> dict[str, tuple[int, ...]]:
        """By the path of an input, the dimensions that are left open."""
        found: dict[str, tuple[int, ...]] = {}
        for path, axis in sorted(place for group in self.groups for place in group):
            found[path] = (*found.get(path, ()), axis)
        return found

    def stand_in(self, inputs: Inputs) -> Inputs:
        """Inputs of the sizes at which they are told apart: a trace reads no data.

        The inputs themselves where they have these sizes. What is one tensor stays one.
        """
        leaves, _ = call_leaves(inputs.args, dict(inputs.kwargs))
        made: dict[int, torch.Tensor] = {}
        for path, leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                shape = [self.example.get((path, d), n) for d, n in enumerate(leaf.shape)]
                made[id(leaf)] = leaf if shape == list(leaf.shape) else _empty(leaf, shape)
        given = inputs.args, dict(inputs.kwargs)
        return Inputs(*tree_map_only(torch.Tensor, lambda leaf: made[id(leaf)], given))


@dataclass
class SizeHistory:
    """The sizes of calls, by the form of their inputs."""

    _known: dict[Any, list[dict[Place, int]]] = field(default_factory=dict)

    def note(self, inputs: Inputs) -> None:
        """Remember the sizes of a call."""
        form, sizes = form_and_sizes(inputs)
        known = self._known.setdefault(form, [])
        if sizes not in known and len(known) < MOST_KEPT:
            known.append(sizes)

    def varying(self, inputs: Inputs) -> OpenSizes | None:
        """What varies among this call and those before it; None if nothing does.

        Dimensions vary together as long as they were of one size in every call. The first
        dimension varies where all inputs have the same one: a last batch is smaller.
        """
        form, now = form_and_sizes(inputs)
        known = self._known.get(form, [])
        calls = [now, *known]
        columns: dict[Place, Any] = {p: tuple(sizes[p] for sizes in calls) for p in now}
        varied = {column for column in columns.values() if len(set(column)) > 1}
        if not varied:
            return None
        first = {column for (_, axis), column in columns.items() if axis == 0}
        if len(first) == 1:  # rows: never a length, whatever that is
            columns |= {place: "rows" for place in columns if place[1] == 0}
            varied.add("rows")
        groups = grouped(columns, varied)
        found = OpenSizes.of(groups, now, list(reversed(known)))
        return found if found.groups else None


def grouped(columns: Mapping[Place, Any], wanted: Collection[Any]) -> tuple[Group, ...]:
    """Dimensions with the same entry, for each entry that is wanted."""
    found: dict[Any, list[Place]] = {}
    for place, column in columns.items():
        if column in wanted:
            found.setdefault(column, []).append(place)
    return tuple(tuple(places) for places in found.values())


def form_and_sizes(inputs: Inputs) -> tuple[Any, dict[Place, int]]:
    """What calls that differ in sizes only have in common, and the sizes.

    Examples
    --------
    >>> form_and_sizes(Inputs((torch.ones(2, 3),)))[1]
    {('args[0]', 0): 2, ('args[0]', 1): 3}
    """
    leaves, nesting = call_leaves(inputs.args, dict(inputs.kwargs))
    form: list[Any] = [str(nesting)]
    sizes: dict[Place, int] = {}
    for path, leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            form.append((leaf.dim(), leaf.dtype, leaf.device))
            sizes |= {(path, d): n for d, n in enumerate(leaf.shape)}
        else:
            form.append((type(leaf), repr(leaf)))
    return tuple(form), sizes


def _empty(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    return tensor.detach().new_empty(shape).requires_grad_(tensor.requires_grad)
