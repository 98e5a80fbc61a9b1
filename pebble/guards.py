"""What a plan was made for, and the check of every call against it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from pebble.errors import PlanMismatch

if TYPE_CHECKING:
    from pebble.tracing import Captured, Slot

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_AGAIN = "Plan again with pebble.optimize, or apply the plan with on_mismatch='eager'."


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must look like: contents are free, everything else is planned."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    requires_grad: bool
    stride: tuple[int, ...] | None = None

    def check(self, tensor: Any) -> None:
        """Raise `PlanMismatch` with the first difference."""
        if not isinstance(tensor, torch.Tensor):
            self._differs("a tensor", type(tensor).__name__)
        if tensor.shape != self.shape:
            self._differs(f"of shape {list(self.shape)}", str(list(tensor.shape)))
        if tensor.dtype is not self.dtype:
            self._differs(f"of dtype {self.dtype}", str(tensor.dtype))
        if tensor.requires_grad is not self.requires_grad:
            self._differs(f"with requires_grad={self.requires_grad}", str(tensor.requires_grad))
        if tensor.device.type != torch.device(self.device).type:
            self._differs(f"on {self.device}", str(tensor.device))
        if self.stride is not None and not _same_layout(self, tensor.stride()):
            self._differs(f"with strides {list(self.stride)}", str(list(tensor.stride())))

    def _differs(self, planned: str, found: str) -> None:
        raise PlanMismatch(f"{self.name} was planned {planned}, but is {found} now. {_AGAIN}")


@dataclass(frozen=True)
class ModuleSpec:
    """One module of the tree: where it hangs, what it is, and what of it the graph depends on."""

    parent: int
    key: str
    name: str
    kind: str
    training: bool
    settings: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class ModelGuard:
    """The modules, parameters and buffers that a captured step was made of.

    Attributes
    ----------
    modules : tuple of ModuleSpec
        Parents before children; the first is the model itself.
    tensors : tuple of (module index, "_parameters" or "_buffers", key, TensorSpec)
        In the order in which the step takes them.
    training : bool
        The model's own mode.
    """

    modules: tuple[ModuleSpec, ...]
    tensors: tuple[tuple[int, str, str, TensorSpec], ...]
    training: bool

    @classmethod
    def of(cls, model: nn.Module, slots: list[Slot]) -> ModelGuard:
        """The guard of a model as it is now."""
        index = {"": 0}
        modules = [ModuleSpec(-1, "", "", "", model.training, _settings(model))]
        for name, module in model.named_modules(remove_duplicate=False):
            if name:
                parent, _, key = name.rpartition(".")
                index[name] = len(modules)
                kind = type(module).__qualname__
                modules.append(
                    ModuleSpec(index[parent], key, name, kind, module.training, _settings(module))
                )
        tensors = []
        for slot in slots:
            owner, _, key = slot.name.rpartition(".")
            if owner not in index:
                raise _absent(slot.name, model)
            held = model.get_submodule(owner)
            store = "_parameters" if key in held._parameters else "_buffers"
            tensor = getattr(held, store).get(key)
            if tensor is None:
                raise _absent(slot.name, model)
            meta = slot.node.meta["val"]
            spec = TensorSpec(
                repr(slot.name), tuple(meta.shape), meta.dtype, str(tensor.device),
                tensor.requires_grad,
            )  # fmt: skip
            tensors.append((index[owner], store, key, spec))
        return cls(tuple(modules), tuple(tensors), model.training)

    def match(self, model: nn.Module) -> list[torch.Tensor]:
        """The model's parameters and buffers, looked up by name now.

        Raises
        ------
        PlanMismatch
            If the model is not what it was: a module replaced, in another mode or with other
            settings, a hook added, a parameter of another shape or dtype, frozen or unfrozen.
        """
        found = [model]
        for spec in self.modules[1:]:
            module = found[spec.parent]._modules.get(spec.key)
            if module is None or type(module).__qualname__ != spec.kind:
                now = "gone" if module is None else f"a {type(module).__qualname__}"
                raise PlanMismatch(f"{spec.name!r} was a {spec.kind}, but is {now}. {_AGAIN}")
            found.append(module)
        for module, spec in zip(found, self.modules):
            state = module.__dict__
            if state["training"] is not spec.training:
                raise PlanMismatch(
                    f"{spec.name or 'The model'!r} was planned in "
                    f"{_mode(spec.training)} mode, but is in {_mode(module.training)} mode. "
                    f"{_AGAIN}"
                )
            if spec.name and (
                state["_forward_hooks"]
                or state["_forward_pre_hooks"]
                or state["_backward_hooks"]
                or state["_backward_pre_hooks"]
            ):
                _check_module_hooks(spec.name, module)
            for key, value in spec.settings:
                if state.get(key) != value:
                    raise PlanMismatch(
                        f"{key!r} of {spec.name or 'the model'!r} was {value!r}, but is "
                        f"{state.get(key)!r}. {_AGAIN}"
                    )
        tensors = []
        for owner, store, key, expected in self.tensors:
            tensor = found[owner].__dict__[store].get(key)
            expected.check(tensor)
            tensors.append(tensor)
        return tensors

    def check_hooks(self, model: nn.Module) -> None:
        """Raise `PlanMismatch` if a submodule has a hook that a planned step would not run."""
        for name, module in model.named_modules():
            if name:
                _check_module_hooks(name, module)


@dataclass(frozen=True)
class InputGuard:
    """The inputs that a step was captured on.

    Attributes
    ----------
    specs : tuple of TensorSpec
        In the order in which the step takes them; named by their path, such as ``args[0]`` or
        ``kwargs['input_ids']``.
    """

    specs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, slots: list[Slot]) -> InputGuard:
        """The guard of the captured inputs."""
        specs = []
        for slot in slots:
            meta = slot.node.meta["val"]
            specs.append(
                TensorSpec(
                    slot.name, tuple(meta.shape), meta.dtype, str(meta.device),
                    meta.requires_grad, tuple(meta.stride()),
                )
            )  # fmt: skip
        return cls(tuple(specs))

    @functools.cached_property
    def getter(self) -> Callable[[Any, Any], list[Any]]:
        """From (args, kwargs) to the tensors at the planned paths."""
        paths = ", ".join(spec.name for spec in self.specs)
        getter: Callable[[Any, Any], list[Any]] = eval(  # paths come from the capture's pytree
            compile(f"lambda args, kwargs: [{paths}]", "<pebble inputs>", "eval")
        )
        return getter

    def __getstate__(self) -> dict[str, Any]:
        return {"specs": self.specs}

    def match(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
        """The input tensors of a call.

        Raises
        ------
        PlanMismatch
            If one is absent, unexpected, or of another shape, dtype, device or layout.
        """
        try:
            tensors = self.getter(args, kwargs)
        except (LookupError, AttributeError, TypeError):
            raise PlanMismatch(
                f"The plan was made for the inputs {', '.join(s.name for s in self.specs)}; this "
                f"call has {len(args)} positional arguments and the keywords "
                f"{', '.join(map(repr, kwargs)) or '(none)'}. {_AGAIN}"
            ) from None
        for spec, tensor in zip(self.specs, tensors):
            spec.check(tensor)
        given = sum(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves((args, kwargs)))
        if given != len(tensors):
            raise PlanMismatch(
                f"This call passes {given} tensors, but the plan was made for {len(tensors)}: "
                f"{', '.join(s.name for s in self.specs)}. {_AGAIN}"
            )
        return tensors


@dataclass(frozen=True)
class Guards:
    """Everything that a call must have in common with the capture."""

    model: ModelGuard
    inputs: InputGuard
    order: tuple[int, ...]
    autocast: tuple[tuple[str, bool, torch.dtype], ...]

    @classmethod
    def of(cls, model: nn.Module, captured: Captured) -> Guards:
        """The guards of a captured step, for a model in the state it was captured in."""
        fed = [slot for slot in captured.slots if slot.node.op == "placeholder"]
        inputs = [slot for slot in fed if slot.kind.name == "INPUT"]
        held = [slot for slot in fed if slot.kind.name != "INPUT"]
        position = {slot.node: i for i, slot in enumerate([*held, *inputs])}
        return cls(
            ModelGuard.of(model, held),
            InputGuard.of(inputs),
            tuple(position[slot.node] for slot in fed),
            _autocast_state(captured.device),
        )

    def match(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """The tensors of a call, one per placeholder slot, in slot order.

        Raises
        ------
        PlanMismatch
            With the first difference.
        """
        for device, enabled, dtype in self.autocast:
            now = torch.is_autocast_enabled(device)
            if now is not enabled or (now and torch.get_autocast_dtype(device) is not dtype):
                was, is_now = (
                    _say_autocast(enabled, dtype),
                    _say_autocast(now, torch.get_autocast_dtype(device)),
                )
                raise PlanMismatch(f"Autocast was {was} at planning, but is {is_now}. {_AGAIN}")
        found = self.model.match(model) + self.inputs.match(args, kwargs)
        return [found[i] for i in self.order]


def _absent(name: str, model: nn.Module) -> PlanMismatch:
    return PlanMismatch(f"The plan needs {name!r}, which this {type(model).__name__} lacks.")


def _autocast_state(device: str) -> tuple[tuple[str, bool, torch.dtype], ...]:
    kinds = dict.fromkeys(("cpu", torch.device(device).type))
    return tuple((k, torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds)


def _say_autocast(enabled: bool, dtype: torch.dtype) -> str:
    return f"on ({dtype})" if enabled else "off"


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


def _same_layout(spec: TensorSpec, stride: tuple[int, ...]) -> bool:
    assert spec.stride is not None
    return stride == spec.stride or all(
        size < 2 or have == want for size, have, want in zip(spec.shape, stride, spec.stride)
    )


def _settings(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    """Numbers and flags of torch's own modules (a dropout's p, a norm's eps): constants of the
    graph. Other people's modules may count steps in such attributes, so theirs are not compared.
    """
    if not type(module).__module__.startswith("torch.nn."):
        return ()
    return tuple(
        (key, value)
        for key, value in vars(module).items()
        if key != "training" and not key.startswith("_") and isinstance(value, (int, float, str))
    )


def _check_module_hooks(name: str, module: nn.Module) -> None:
    for kind in _HOOKS:
        for hook in getattr(module, kind).values():
            # weight_norm and spectral_norm compute the weight in a hook: part of the graph
            if not getattr(type(hook), "__module__", "").startswith("torch.nn.utils."):
                raise PlanMismatch(
                    f"{name!r} has a hook ({kind.strip('_').replace('_', ' ')}), which a planned "
                    "step does not run: it executes ops, not submodules. Remove the hook, put it "
                    "on the whole model, or apply the plan with on_mismatch='eager'."
                )
