"""The object that a model returns, taken apart into tensors and put together again."""

from __future__ import annotations

import copy
import dataclasses
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pebble.tracing.torch_private.pytree import (
    TreeSpec,
    is_tensor_tree,
    tree_flatten,
    tree_unflatten,
)

_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, type)
_OPAQUE = (torch.nn.Module, types.FunctionType, types.MethodType, types.ModuleType)


@dataclass(frozen=True)
class Leaf:
    """A tensor of the output: `index` counts the tensors of the output, `path` says where."""

    index: int
    path: str


@dataclass(frozen=True)
class Branch:
    """A container of the output.

    Attributes
    ----------
    like : object
        For an attribute container (a dataclass, a cache): the object with its tensors removed.
        For a pytree container: None.
    spec : TreeSpec or None
    keys : tuple of str
        Attribute names; empty for a pytree container.
    children : tuple of Leaf, Branch or constant
    """

    like: Any
    spec: TreeSpec | None
    keys: tuple[str, ...]
    children: tuple[Any, ...]


def take_apart(output: Any) -> tuple[Any, list[torch.Tensor]]:
    """A template of an output, and its tensors in order.

    Examples
    --------
    >>> import torch
    >>> template, tensors = take_apart({"loss": torch.zeros(()), "name": "x"})
    >>> len(tensors), put_together(template, ["a tensor"])
    (1, {'loss': 'a tensor', 'name': 'x'})
    """
    tensors: list[torch.Tensor] = []
    return _take(output, "", tensors, ()), tensors


def put_together(template: Any, tensors: Sequence[Any]) -> Any:
    """The output with these tensors in place of those it was taken apart from."""
    if isinstance(template, Leaf):
        return tensors[template.index]
    if not isinstance(template, Branch):
        return template
    children = [put_together(child, tensors) for child in template.children]
    if template.spec is not None:
        return tree_unflatten(children, template.spec)
    made = copy.copy(template.like)
    for key, child in zip(template.keys, children):
        object.__setattr__(made, key, child)
    return made


@dataclass(frozen=True)
class Extended:
    """An output and the tensors that come with it."""

    output: Any
    more: tuple[Any, ...]


def extended(
    template: Any, tensors: Sequence[torch.Tensor], more: Mapping[str, torch.Tensor]
) -> tuple[Any, list[torch.Tensor]]:
    """The template of an output that comes with more tensors, by name; and all tensors.

    Examples
    --------
    >>> import torch
    >>> template, tensors = extended(*take_apart(torch.zeros(1)), {"aux": torch.zeros(2)})
    >>> put_together(template, ["first", "second"])
    Extended(output='first', more=('second',))
    """
    found = list(tensors)
    position = {id(tensor): i for i, tensor in enumerate(found)}
    children = []
    for name, tensor in more.items():
        if id(tensor) not in position:
            position[id(tensor)] = len(found)
            found.append(tensor)
        children.append(Leaf(position[id(tensor)], name))
    spec = tree_flatten(tuple(range(len(children))))[1]
    both = (template, Branch(None, spec, (), tuple(children)))
    return Branch(Extended(None, ()), None, ("output", "more"), both), found


def without(template: Any, dropped: Collection[int]) -> Any:
    """The template with None in place of these tensors, the others counted anew.

    Examples
    --------
    >>> import torch
    >>> template, _ = take_apart((torch.zeros(1), torch.zeros(2)))
    >>> put_together(without(template, {0}), ["second"])
    (None, 'second')
    """
    if isinstance(template, Leaf):
        if template.index in dropped:
            return None
        return Leaf(template.index - sum(i < template.index for i in dropped), template.path)
    if not isinstance(template, Branch):
        return template
    children = tuple(without(child, dropped) for child in template.children)
    return dataclasses.replace(template, children=children)


def each_once(template: Any, tensors: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The template and the tensors with one leaf number for each tensor, however often it is there.

    Examples
    --------
    >>> import torch
    >>> same = torch.zeros(1)
    >>> template, tensors = each_once(*take_apart((same, same)))
    >>> len(tensors), put_together(template, ["a tensor"])
    (1, ('a tensor', 'a tensor'))
    """
    first: dict[int, int] = {}
    for tensor in tensors:
        first.setdefault(id(tensor), len(first))
    known = {i: first[id(tensor)] for i, tensor in enumerate(tensors)}
    merged = {id(tensor): tensor for tensor in tensors}
    return _renumbered(template, known), list(merged.values())


def _renumbered(template: Any, known: Mapping[int, int]) -> Any:
    if isinstance(template, Leaf):
        return Leaf(known[template.index], template.path)
    if not isinstance(template, Branch):
        return template
    children = tuple(_renumbered(child, known) for child in template.children)
    return dataclasses.replace(template, children=children)


def leaves(template: Any) -> Iterator[Leaf]:
    """The tensor leaves of a template, in order."""
    if isinstance(template, Leaf):
        yield template
    elif isinstance(template, Branch):
        for child in template.children:
            yield from leaves(child)


def _take(thing: Any, path: str, tensors: list[torch.Tensor], above: tuple[int, ...]) -> Any:
    if isinstance(thing, torch.Tensor):
        tensors.append(thing)
        return Leaf(len(tensors) - 1, path or "output")
    if isinstance(thing, (*_PLAIN, *_OPAQUE)) or id(thing) in above:
        return thing
    above = (*above, id(thing))
    if is_tensor_tree(thing):
        found, spec = tree_flatten(thing, is_leaf=lambda x: x is not thing)
        keys = list(thing) if isinstance(thing, Mapping) else range(len(found))
        children = [_take(x, f"{path}[{k!r}]", tensors, above) for k, x in zip(keys, found)]
        return Branch(None, spec, (), tuple(children))
    return _take_attributes(thing, path, tensors, above)


def _take_attributes(
    thing: Any, path: str, tensors: list[torch.Tensor], above: tuple[int, ...]
) -> Any:
    state = getattr(thing, "__dict__", None)
    if dataclasses.is_dataclass(thing):
        state = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
    if not state:
        return thing
    before = len(tensors)
    children = [_take(x, f"{path}.{key}", tensors, above) for key, x in state.items()]
    if len(tensors) == before:
        return thing  # nothing inside: a constant
    like = copy.copy(thing)
    for key in state:
        object.__setattr__(like, key, None)
    return Branch(like, None, tuple(state), tuple(children))
