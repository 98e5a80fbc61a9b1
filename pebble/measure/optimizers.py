"""What an optimizer keeps between steps and what its step takes on top."""

from __future__ import annotations

import copy
import inspect
import math
import weakref
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch

from pebble.errors import InvalidArgument
from pebble.tracing.torch_private import pytree
from pebble.tracing.torch_private.dispatch import TorchDispatchMode
from pebble.tracing.torch_private.operators import LOCAL_SCALAR_DENSE
from pebble.tracing.torch_private.storages import storage_bytes, storage_id

SCALARS = 64  # bytes: Python numbers that the CPU wraps as tensors while an op runs
_BLOCK, _SMALL, _MAPS = 256, 4096, 2 * 256 * 4  # bitsandbytes: 8-bit states in blocks of 256


class Implementation(StrEnum):
    """How torch.optim walks over the parameters."""

    FORLOOP = "for-loop"
    FOREACH = "foreach"
    FUSED = "fused"


@dataclass(frozen=True)
class Weight:
    """A trainable parameter as an optimizer sees it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stride: tuple[int, ...] | None = None

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of the parameter itself."""
        return self.numel * self.dtype.itemsize

    def meta(self) -> torch.Tensor:
        """A tensor of this shape without memory, with a gradient."""
        strides = self.stride or torch.empty(self.shape, device="meta").stride()
        empty = torch.empty_strided(self.shape, strides, dtype=self.dtype, device="meta")
        parameter = torch.nn.Parameter(empty, requires_grad=True)
        parameter.grad = torch.empty_like(empty)
        return parameter


@dataclass(frozen=True)
class OptimizerMemory:
    """Bytes of an optimizer on the device.

    Attributes
    ----------
    name : str
    state : int
        Kept between steps, from the first one on.
    temporaries : int
        The most that a step holds beyond parameters, gradients and state.
    host : int
        State that pages out to the host (paged optimizers).
    """

    name: str
    state: int
    temporaries: int
    host: int = 0


NO_OPTIMIZER = OptimizerMemory("none", 0, 0)


def optimizer_memory(
    optimizer: str | torch.optim.Optimizer | None,
    weights: Sequence[Weight],
    *,
    device: str = "cpu",
    implementation: str | None = None,
    trained: Container[int] | None = None,
) -> OptimizerMemory:
    """Memory of an optimizer over these trainable parameters.

    torch's own optimizers are not modelled: their Python code steps twice over tensors without
    memory while every storage that it makes is counted.

    Parameters
    ----------
    optimizer : str, torch.optim.Optimizer or None
        One of "sgd", "momentum", "adam", "adamw", "adafactor", "lion", "adamw8bit",
        "paged_adamw8bit"; or an optimizer, whose parameters, options and existing state count.
    weights : sequence of Weight
        For a name; an optimizer object brings its own.
    device : str
    implementation : "for-loop", "foreach" or "fused", optional
        Default: what torch picks on the device (foreach on CUDA, for-loop on the CPU).
    trained : container of int, optional
        ``id`` of those parameters of an optimizer object that get a gradient; default all.

    Raises
    ------
    InvalidArgument
        If the optimizer or the implementation is unknown; lists the choices.

    Examples
    --------
    >>> import torch
    >>> from pebble.measure.optimizers import Weight, optimizer_memory
    >>> weights = [Weight((1000, 1000), torch.float32)]
    >>> optimizer_memory("adamw", weights).state, optimizer_memory("sgd", weights).state
    (8000004, 0)
    """
    way = _implementation(implementation, device)
    if optimizer is None:
        return NO_OPTIMIZER
    if isinstance(optimizer, torch.optim.Optimizer):
        chosen = None if implementation is None else way
        return _of_object(optimizer, device, chosen, trained)
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise InvalidArgument(
            f"The optimizer is the class {name}; pass {name}(model.parameters()), or one of "
            f"{', '.join(OPTIMIZERS)} by its name."
        )
    if not isinstance(optimizer, str) or optimizer.lower() not in OPTIMIZERS:
        raise InvalidArgument(
            f"Optimizer {optimizer!r} is not known; choose one of {', '.join(OPTIMIZERS)}, pass a "
            "torch.optim.Optimizer, or None for no optimizer."
        )
    name = optimizer.lower()
    if not weights:
        return OptimizerMemory(name, 0, 0)
    return OPTIMIZERS[name](name, weights, device, way)


def _implementation(name: str | None, device: str) -> Implementation:
    if name is None:
        cuda = torch.device(device).type == "cuda"
        return Implementation.FOREACH if cuda else Implementation.FORLOOP
    if name not in list(Implementation):
        raise InvalidArgument(
            f"Optimizer implementation {name!r} is not known; choose one of "
            f"{', '.join(Implementation)}."
        )
    return Implementation(name)


# -- torch's own, by running them on tensors without memory ------------------------------------


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that are made and released while it is on."""

    def __init__(self, counted: Iterable[str], known: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted = frozenset(counted)
        self.seen: dict[int, Any] = {storage_id(t): None for t in known}
        self.live = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is LOCAL_SCALAR_DENSE and args[0].is_meta:
            return 1.0  # Adafactor reads norms; any number will do, the sizes do not depend on it
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type in self.counted:
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage_id(storage), storage.nbytes()
        if key in self.seen:
            return
        self.seen[key] = None
        weakref.finalize(storage, self._forget, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        del self.seen[key]
        self.live -= size


def _counted(device: str) -> tuple[str, ...]:
    """Kinds of device whose bytes count: step counters stand on the CPU."""
    return ("meta", "cpu") if torch.device(device).type == "cpu" else ("meta",)


def _stepped(
    optimizer: torch.optim.Optimizer, name: str, device: str, way: Implementation
) -> OptimizerMemory:
    """State and temporaries of an optimizer over parameters without memory."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = [*parameters, *(p.grad for p in parameters if p.grad is not None)]
    meter = _Meter(_counted(device), known)
    with meter:
        optimizer.step()
        optimizer.step()
    state = state_bytes(optimizer, _counted(device))
    temporaries = 0 if way is Implementation.FUSED else meter.peak - state
    return OptimizerMemory(name, state, max(temporaries, 0) + SCALARS)


def state_bytes(optimizer: torch.optim.Optimizer, kinds: Sequence[str]) -> int:
    """Bytes of the tensors in an optimizer's state on devices of these kinds, each storage once."""
    leaves = pytree.tree_leaves([dict(s) for s in optimizer.state.values()])
    return storage_bytes(
        leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.device.type in kinds
    )


def without_state(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimizer of the same class and options over the same parameters, before its first step.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> twin = without_state(torch.optim.SGD([weight], lr=0.1, momentum=0.9))
    >>> twin.param_groups[0]["params"][0] is weight, twin.defaults["momentum"], len(twin.state)
    (True, 0.9, 0)
    """
    twin = copy.copy(optimizer)
    twin.state = defaultdict(dict)
    twin.param_groups = [{**group} for group in optimizer.param_groups]
    return twin


def _flags(make: type[torch.optim.Optimizer], way: Implementation) -> dict[str, Any]:
    accepted = inspect.signature(make).parameters
    flags = {"foreach": way is Implementation.FOREACH}  # fused steps have the same state
    return {key: value for key, value in flags.items() if key in accepted}


def _torch(make: type[torch.optim.Optimizer], **options: Any) -> Callable[..., OptimizerMemory]:
    def measure(
        name: str, weights: Sequence[Weight], device: str, way: Implementation
    ) -> OptimizerMemory:
        optimizer = make([w.meta() for w in weights], **options, **_flags(make, way))
        return _stepped(optimizer, name, device, way)

    return measure


def _of_object(
    optimizer: torch.optim.Optimizer,
    device: str,
    chosen: Implementation | None,
    trained: Container[int] | None,
) -> OptimizerMemory:
    """An optimizer's existing state, and what a twin over tensors without memory shows."""
    name = type(optimizer).__name__
    existing = state_bytes(optimizer, (torch.device(device).type,))
    try:
        twin, way = _twin(optimizer, device, chosen, trained)
        memory = _stepped(twin, name, device, way)
    except Exception as error:  # a third party's optimizer may need anything
        if not existing:
            raise InvalidArgument(
                f"The memory of optimizer {name} cannot be found out ({error}); take one step "
                "with it first, so that its state exists, or pass the name of a similar one."
            ) from error
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        return OptimizerMemory(name, existing, sum(p.numel() * p.itemsize for p in parameters))
    return OptimizerMemory(name, max(existing, memory.state), memory.temporaries)


def _twin(
    optimizer: torch.optim.Optimizer,
    device: str,
    chosen: Implementation | None,
    trained: Container[int] | None,
) -> tuple[torch.optim.Optimizer, Implementation]:
    """An optimizer of the same class and options over parameters without memory."""
    make = type(optimizer)
    accepted = inspect.signature(make).parameters
    way = chosen or _own_way(optimizer, device)
    fixed = {**_flags(make, way), **({"fused": False} if "fused" in accepted else {})}
    groups = []
    for group in optimizer.param_groups:
        options = {k: v for k, v in group.items() if k in accepted and k != "params"}
        metas = [
            Weight(tuple(p.shape), p.dtype, p.stride()).meta()
            for p in group["params"]
            if p.requires_grad and (trained is None or id(p) in trained)
        ]
        groups.append({**options, **fixed, "params": metas})
    options = {k: v for k, v in optimizer.defaults.items() if k in accepted}
    return make(groups, **{**options, **fixed}), way


def _own_way(optimizer: torch.optim.Optimizer, device: str) -> Implementation:
    options = optimizer.param_groups[0]
    if options.get("fused"):
        return Implementation.FUSED
    if options.get("foreach") is not None:
        return Implementation.FOREACH if options["foreach"] else Implementation.FORLOOP
    return _implementation(None, device)


def _adafactor(
    name: str, weights: Sequence[Weight], device: str, way: Implementation
) -> OptimizerMemory:
    """torch's, whose norms of low-precision weights also make one fp32 copy inside an op."""
    memory = _torch(torch.optim.Adafactor)(name, weights, device, way)
    low = [w.bytes for w in weights if w.dtype.itemsize < 4]
    return replace(memory, temporaries=memory.temporaries + max(low, default=0))


# -- others, by their published layout ------------------------------------------------------------


def _lion(
    name: str, weights: Sequence[Weight], device: str, way: Implementation
) -> OptimizerMemory:
    """Chen et al. 2023: one momentum; the update is a clone of it, mixed with the gradient."""
    total, largest = sum(w.bytes for w in weights), max(w.bytes for w in weights)
    takes = {
        Implementation.FUSED: 0,
        Implementation.FOREACH: 2 * total,
        Implementation.FORLOOP: 2 * largest,
    }
    return OptimizerMemory(name, total, takes[way] + SCALARS)


def _state_8bit(weight: Weight) -> int:
    if weight.numel < _SMALL:
        return 2 * 4 * weight.numel
    return 2 * (weight.numel + 4 * -(-weight.numel // _BLOCK))


def _adamw8bit(
    name: str, weights: Sequence[Weight], device: str, way: Implementation
) -> OptimizerMemory:
    """Dettmers et al. 2022: two states of one byte, block maxima, a kernel without temporaries."""
    return OptimizerMemory(name, sum(map(_state_8bit, weights)) + _MAPS, SCALARS)


def _paged_adamw8bit(
    name: str, weights: Sequence[Weight], device: str, way: Implementation
) -> OptimizerMemory:
    """The same in unified memory: under pressure one parameter's pages are on the device."""
    states = [_state_8bit(w) for w in weights]
    return OptimizerMemory(name, _MAPS, max(states) + SCALARS, host=sum(states))


OPTIMIZERS: Mapping[str, Callable[..., OptimizerMemory]] = {
    "sgd": _torch(torch.optim.SGD, lr=0.1),
    "momentum": _torch(torch.optim.SGD, lr=0.1, momentum=0.9),
    "adam": _torch(torch.optim.Adam),
    "adamw": _torch(torch.optim.AdamW),
    "sparse_adam": _torch(torch.optim.Adam),  # of dense gradients; see `sparse_optimizers`
    "adafactor": _adafactor,
    "lion": _lion,
    "adamw8bit": _adamw8bit,
    "paged_adamw8bit": _paged_adamw8bit,
}
