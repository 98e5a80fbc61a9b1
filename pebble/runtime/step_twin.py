"""A copy of a model and its call that shares their memory and nothing else.

Steps that are run to be compared or measured run on it: gradients, hooks, Python attributes and
flags of the user's own objects stay untouched, and what is written is put back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.runtime.agreement import same_contents
from pebble.runtime.model_guard import remove_untraced_hooks
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs
from pebble.tracing.tensor_copies import TensorCopies
from pebble.tracing.torch_private.pytree import call_leaves
from pebble.tracing.training_mode import set_modes

_CACHE = "kwargs['use_cache']"


@dataclass
class StepTwin:
    """A copy of a model and its call; every tensor of it lies where the original's does.

    Attributes
    ----------
    model : nn.Module
        In the modes of the capture, without the hooks that a planned step does not run.
    args, kwargs
        Tensors that were one object are one object, those that share memory share it.
    loss : callable or None
    parameters, buffers, inputs, others : dict of str to Tensor
        By name; others: tensors that are neither registered nor passed.
    device : torch.device
    """

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    loss: Callable[[Any], torch.Tensor] | None
    parameters: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    others: dict[str, torch.Tensor]
    device: torch.device
    source: tuple[nn.Module, Captured, Inputs] = field(repr=False)
    contents: dict[str, torch.Tensor] = field(repr=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        captured: Captured,
        inputs: Inputs,
        contents: dict[str, torch.Tensor] | None = None,
    ) -> StepTwin:
        """The twin of a model and its inputs.

        Parameters
        ----------
        contents : dict of str to Tensor, optional
            Copies on the host of all that a step may write to; default: made now.

        Raises
        ------
        InvalidArgument
            If they cannot be copied.
        """
        kwargs = dict(inputs.kwargs)
        if _CACHE in captured.state.constants:  # eager, too, runs without a cache
            kwargs.setdefault("use_cache", captured.state.constants[_CACHE])
        memo: dict[int, Any] = {}
        named = dict(model.named_parameters())
        lent = captured.loss if isinstance(captured.loss, nn.Module) else None
        aliases = TensorCopies(_alias)
        try:
            twin, args, kwargs, loss = aliases.copied(
                (model, inputs.args, kwargs, captured.loss),
                (*named.values(), *([] if lent is None else lent.parameters())),
                memo,
            )
        except Exception as error:
            raise InvalidArgument(
                f"This {type(model).__name__} cannot be compared with its plan, since a copy "
                f"of it cannot be made ({type(error).__name__}: {error}). Plan it with "
                "check=False."
            ) from error
        set_modes(twin, captured.state.training)
        remove_untraced_hooks(twin)
        buffers = dict(twin.named_buffers())
        given = {n: t for n, t in call_leaves(args, kwargs)[0] if isinstance(t, torch.Tensor)}
        known = {id(t) for t in (*buffers.values(), *given.values())}
        rest = [t for t in aliases.made.values() if id(t) not in known]
        made = cls(
            twin,
            args,
            kwargs,
            loss,
            {name: memo[id(tensor)] for name, tensor in named.items()},
            buffers,
            given,
            _named(twin, rest),
            torch.device(captured.device),
            (model, captured, inputs),
            contents or {},
        )
        if contents is None:
            made.contents |= {name: to_host(t) for name, t in made.state()}
        return made

    def fresh(self) -> StepTwin:
        """Another twin of the same model, whose Python state no run of this one has changed."""
        return StepTwin.of(*self.source, self.contents)

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor that a step may write to, with its name in words."""
        kinds: tuple[tuple[str, Mapping[str, torch.Tensor]], ...] = (
            ("buffer", self.buffers),
            ("input", self.inputs),
            ("tensor", self.others),
            ("parameter", self.parameters),
        )
        for kind, named in kinds:
            for name, tensor in named.items():
                yield f"{kind} {name!r}", tensor.detach()

    def written(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The part of the state whose contents are not what they were."""
        for name, tensor in self.state():
            if not same_contents(tensor, self.contents[name]):
                yield name, tensor

    def differentiated(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors that may get a gradient: parameters from the last on, then inputs."""
        for name, tensor in (*reversed(self.parameters.items()), *self.inputs.items()):
            if tensor.requires_grad:
                yield name, tensor

    def reset(self) -> None:
        """First contents, no gradients."""
        for name, tensor in list(self.written()):
            tensor.copy_(self.contents[name])
        for _, tensor in self.differentiated():
            tensor.grad = None
        torch.clear_autocast_cache()  # or a cast weight of an earlier step would be used again

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Leave the model and its inputs as they were."""
        originals = list(self.source[0].parameters())
        grads = [tensor.grad for tensor in originals]
        for tensor in originals:  # a loss function may reach past the twin
            tensor.grad = None
        try:
            yield
        finally:
            self.reset()
            for tensor, grad in zip(originals, grads):
                tensor.grad = grad


def _alias(tensor: torch.Tensor) -> torch.Tensor:
    """Another leaf on the same memory, without its gradient and its hooks."""
    if isinstance(tensor, nn.Parameter):
        if not tensor.requires_grad:  # nothing of it can change but its contents
            return tensor
        made: torch.Tensor = nn.Parameter(tensor.detach())
        made.__dict__.update(tensor.__dict__)
        return made
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _named(model: nn.Module, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that hang on modules without being registered, by their paths where they have one."""
    paths = {
        id(value): f"{name}.{key}".lstrip(".")
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    }
    return {paths.get(id(t), f"number {i} inside"): t for i, t in enumerate(tensors)}


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor's contents on the host."""
    return tensor.detach().clone() if tensor.is_cpu else tensor.detach().cpu()
