"""The inputs of a step as the tracer is given them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.tracing.torch_private.fake_tensors import fake_mode_of
from pebble.tracing.torch_private.pytree import call_leaves, tree_unflatten
from pebble.tracing.torch_private.storages import storage_id


@dataclass(frozen=True)
class TracedInputs:
    """The inputs, every tensor leaf an object of its own unless asked otherwise.

    Attributes
    ----------
    args, kwargs
        Fake where a tensor of the model or of the call is fake.
    paths : tuple of str
        Of the tensors, such as ``args[0]`` or ``kwargs['input_ids']``.
    tensors : tuple of Tensor
    constants : dict of str to object
        Leaves that are no tensors, by path.
    fake : bool
    given : tuple of Tensor
        The caller's own tensors, which may share memory.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    paths: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    constants: dict[str, Any]
    fake: bool
    given: tuple[torch.Tensor, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        one_for_same: bool = False,
    ) -> TracedInputs:
        """The inputs of a call of this model.

        With `one_for_same`, arguments that are the same elements of the same memory are one
        object: the step is then that of calls which pass them so.
        """
        found, spec = call_leaves(args, kwargs)
        held = [*model.parameters(), *model.buffers()]
        mode = fake_mode_of(*held, *(leaf for _, leaf in found))
        seen = {id(tensor) for tensor in held}
        same: dict[Any, torch.Tensor] = {}
        made: list[Any] = []
        paths: list[str] = []
        constants: dict[str, Any] = {}
        for name, leaf in found:
            if not isinstance(leaf, torch.Tensor):
                constants[name] = leaf
                made.append(leaf)
                continue
            paths.append(name)
            key = _elements(leaf) if one_for_same else len(paths)
            if key in same:
                made.append(same[key])
                continue
            # Dynamo would make one placeholder for two inputs that are the same object today.
            own = _twin(leaf) if id(leaf) in seen else leaf
            own = own if mode is None else mode.from_tensor(own, static_shapes=True)
            seen.add(id(own))
            seen.add(id(leaf))
            same[key] = own
            made.append(own)
        args, kwargs = tree_unflatten(made, spec)
        tensors = tuple(leaf for leaf in made if isinstance(leaf, torch.Tensor))
        given = tuple(leaf for _, leaf in found if isinstance(leaf, torch.Tensor))
        return cls(args, kwargs, tuple(paths), tensors, constants, mode is not None, given)


def _elements(tensor: torch.Tensor) -> Any:
    """Equal for tensors that are the same elements of the same memory to autograd as well."""
    if tensor.requires_grad or tensor.layout is not torch.strided:
        return id(tensor)
    place = storage_id(tensor), tensor.storage_offset()
    return *place, tuple(tensor.shape), tensor.stride(), tensor.dtype


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)
