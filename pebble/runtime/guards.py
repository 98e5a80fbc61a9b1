"""What a plan was made for, and the check of every call against it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.tracing.hidden_state_recorders import is_recorder
from pebble.tracing.torch_private.modules import child_of
from pebble.tracing.torch_private.pytree import TreeSpec, call_leaves, tree_flatten

if TYPE_CHECKING:
    from pebble.tracing import Captured, Slot

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_STORES = ("_parameters", "_buffers")
_CACHE = "kwargs['use_cache']"  # capture switches it off where the caller says nothing
Place = tuple[int, str, str]
_AGAIN = "Plan again with pebble.optimize, or apply the plan with on_mismatch='eager'."


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must look like: contents are free, everything else is planned."""

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool

    @classmethod
    def of(cls, slot: Slot, requires_grad: bool) -> TensorSpec:
        """What a slot of the captured graph was given."""
        meta = slot.node.meta["val"]
        return cls(
            slot.name,
            tuple(meta.shape),
            tuple(meta.stride()),
            meta.dtype,
            meta.device,
            requires_grad,
        )

    def check(self, tensor: Any) -> None:
        """Raise `PlanMismatch` with the first difference."""
        if not isinstance(tensor, torch.Tensor):
            self._differs("as a tensor", type(tensor).__name__)
        if tensor.shape != self.shape:
            self._differs(f"with shape {list(self.shape)}", f"{list(tensor.shape)}")
        if tensor.dtype is not self.dtype:
            self._differs(f"as {self.dtype}", f"{tensor.dtype}")
        if tensor.requires_grad is not self.requires_grad:
            self._differs(f"with requires_grad={self.requires_grad}", f"{tensor.requires_grad}")
        if tensor.device != self.device:
            self._differs(f"on {self.device}", f"on {tensor.device}")
        if tensor.stride() != self.stride and not same_layout(
            self.shape, self.stride, tensor.stride()
        ):
            self._differs(f"with strides {self.stride}", f"{tensor.stride()}")

    def _differs(self, planned: str, found: str) -> None:
        raise PlanMismatch(f"{self.name!r} was planned {planned}; it is {found} now. {_AGAIN}")


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
    tensors : tuple of (places, TensorSpec)
        In the order in which the step takes them. A place is (module index, "_parameters" or
        "_buffers", key); a tied weight has several.
    training : bool
        The model's own mode.
    """

    modules: tuple[ModuleSpec, ...]
    tensors: tuple[tuple[tuple[Place, ...], TensorSpec], ...]
    training: bool

    @classmethod
    def of(cls, model: nn.Module, captured: Captured, slots: list[Slot]) -> ModelGuard:
        """The guard of a model of the kind that was captured."""
        was = captured.state.training
        index: dict[str, int] = {}
        modules: list[ModuleSpec] = []
        for name, module in model.named_modules(remove_duplicate=False):
            parent, _, key = name.rpartition(".")
            mode = was.get(name, module.training)
            index[name] = len(modules)
            kind = type(module).__qualname__ if name else ""
            modules.append(ModuleSpec(index[parent], key, name, kind, mode, _settings(module)))
        tensors = []
        for slot in slots:
            spec = TensorSpec.of(slot, slot.node in captured.gradients)
            places = []
            for path in (slot.name, *slot.aliases):
                owner, _, key = path.rpartition(".")
                held = model.get_submodule(owner) if owner in index else None
                stores = [s for s in _STORES if held is not None and key in getattr(held, s)]
                if not stores:
                    raise PlanMismatch(
                        f"The plan needs {path!r}, which this {type(model).__name__} lacks."
                    )
                places.append((index[owner], stores[0], key))
            tensors.append((tuple(places), spec))
        return cls(tuple(modules), tuple(tensors), modules[0].training)

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
            module = child_of(found[spec.parent], spec.key)
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
        for places, expected in self.tensors:
            owner, store, key = places[0]
            tensor = found[owner].__dict__[store].get(key)
            expected.check(tensor)
            for owner, store, key in places[1:]:
                if found[owner].__dict__[store].get(key) is not tensor:
                    raise PlanMismatch(
                        f"{expected.name!r} was one tensor with "
                        f"{self.modules[owner].name}.{key} at planning, but is no longer. {_AGAIN}"
                    )
            tensors.append(tensor)
        return tensors

    def check_hooks(self, model: nn.Module) -> None:
        """Raise `PlanMismatch` if a submodule has a hook that a planned step would not run."""
        for name, module in model.named_modules():
            if name:
                _check_module_hooks(name, module)


class InputGuard:
    """The inputs that a step was captured on.

    Parameters
    ----------
    specs : tuple of TensorSpec
        In the order in which the step takes them; named by their path, such as ``args[0]`` or
        ``kwargs['input_ids']``.
    constants : mapping of str to object
        Inputs that are no tensors, by path.
    """

    def __init__(self, specs: tuple[TensorSpec, ...], constants: Mapping[str, Any]) -> None:
        self.specs = specs
        self.constants = dict(constants)
        # How calls of one form (positional, keywords, nesting) map to the planned inputs.
        self.forms: list[tuple[TreeSpec, list[int], list[tuple[int, str, Any]]]] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"forms": []}

    def match(
        self, forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """The input tensors of a call.

        Parameters
        ----------
        forward : callable
            For its signature: an argument may be passed by position or by keyword.

        Raises
        ------
        PlanMismatch
            If one is absent, unexpected, or of another shape, dtype, device or layout.
        """
        leaves, form = tree_flatten((args, dict(kwargs)))
        known = next((f for f in self.forms if f[0] == form), None)
        if known is None:
            known = (form, *self._read(forward, args, kwargs))
            self.forms.append(known)
        _, places, fixed = known
        tensors = [leaves[i] for i in places]
        for spec, tensor in zip(self.specs, tensors):
            spec.check(tensor)
        for i, name, planned in fixed:
            value = leaves[i]
            if value is not planned and not (type(value) is type(planned) and value == planned):
                raise PlanMismatch(
                    f"{name!r} was planned as {planned!r}, but is {value!r}. {_AGAIN}"
                )
        return tensors

    def _read(
        self, forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[list[int], list[tuple[int, str, Any]]]:
        """Positions among the call's leaves of the planned tensors and constants."""
        parameters = list(inspect.signature(forward).parameters.values())
        found, _ = call_leaves(args, dict(kwargs))
        at: dict[str, int] = {}
        for i, (name, _) in enumerate(found):
            at[_by_keyword(name, parameters)] = i
        places = []
        for spec in self.specs:
            position = at.pop(_by_keyword(spec.name, parameters), None)
            if position is None:
                self._wrong(f"{spec.name!r} is missing")
            places.append(position)
        defaults = {f"kwargs[{p.name!r}]": p.default for p in parameters}
        fixed = []
        for name, value in self.constants.items():
            own = _by_keyword(name, parameters)
            position = at.pop(own, None)
            if position is not None:
                fixed.append((position, name, value))
            elif own not in defaults or (defaults[own] != value and own != _CACHE):
                self._wrong(f"{name!r} (planned as {value!r}) is missing")
        for name, position in at.items():
            value = found[position][1]
            if isinstance(value, torch.Tensor) or name not in defaults or defaults[name] != value:
                self._wrong(f"{name!r} is new")
            fixed.append((position, name, value))
        return places, fixed

    def _wrong(self, what: str) -> NoReturn:
        names = ", ".join([*(spec.name for spec in self.specs), *self.constants])
        raise PlanMismatch(f"This call differs from the plan's inputs ({names}): {what}. {_AGAIN}")


@dataclass(frozen=True)
class Guards:
    """Everything that a call must have in common with the capture."""

    model: ModelGuard
    inputs: InputGuard
    order: tuple[int, ...]
    autocast: tuple[tuple[str, bool, torch.dtype], ...]

    @classmethod
    def of(cls, model: nn.Module, captured: Captured) -> Guards:
        """The guards of a captured step, for a model of the captured kind."""
        fed = [slot for slot in captured.slots if slot.node.op == "placeholder"]
        inputs = [slot for slot in fed if slot.kind.name == "INPUT"]
        held = [slot for slot in fed if slot.kind.name != "INPUT"]
        position = {slot.node: i for i, slot in enumerate([*held, *inputs])}
        specs = tuple(TensorSpec.of(slot, slot.node in captured.gradients) for slot in inputs)
        return cls(
            ModelGuard.of(model, captured, held),
            InputGuard(specs, captured.state.constants),
            tuple(position[slot.node] for slot in fed),
            captured.state.autocast,
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
            now, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
            if now is not enabled or (now and kind is not dtype):
                raise PlanMismatch(
                    f"Autocast was {_say_autocast(enabled, dtype)} at planning, but is "
                    f"{_say_autocast(now, kind)}. {_AGAIN}"
                )
        found = self.model.match(model) + self.inputs.match(model.forward, args, kwargs)
        return [found[i] for i in self.order]


def _by_keyword(path: str, parameters: list[inspect.Parameter]) -> str:
    """The path of an argument as if it were passed by keyword."""
    if not path.startswith("args["):
        return path
    number, _, rest = path.removeprefix("args[").partition("]")
    i = int(number)
    if i < len(parameters) and parameters[i].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return f"kwargs[{parameters[i].name!r}]{rest}"
    return path


def _say_autocast(enabled: bool, dtype: torch.dtype) -> str:
    return f"on ({dtype})" if enabled else "off"


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


def same_layout(shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two strides address the same elements: those of dimensions of size 1 are free.

    Examples
    --------
    >>> same_layout((4, 1), (1, 4), (1, 1)), same_layout((4, 2), (2, 1), (1, 4))
    (True, False)
    """
    return all(size < 2 or x == y for size, x, y in zip(shape, a, b))


def _settings(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    """Numbers and flags of torch's own modules (a dropout's p, a norm's eps).

    They are constants of the graph. Other people's modules may count steps in such attributes, so
    theirs are not compared.
    """
    if not type(module).__module__.startswith("torch.nn."):
        return ()
    return tuple(
        (key, value)
        for key, value in vars(module).items()
        if key != "training" and not key.startswith("_") and isinstance(value, (int, float, str))
    )


def _is_traced(hook: Any) -> bool:
    """Hooks whose work is part of the graph.

    weight_norm and spectral_norm compute the weight; Hugging Face's recorders hand hidden states
    to the output, and are installed by the first forward.
    """
    return is_recorder(hook) or type(hook).__module__.startswith("torch.nn.utils.")


def _check_module_hooks(name: str, module: nn.Module) -> None:
    for kind in _HOOKS:
        for hook in getattr(module, kind).values():
            if not _is_traced(hook):
                raise PlanMismatch(
                    f"{name!r} has a hook ({kind.strip('_').replace('_', ' ')}), which a planned "
                    "step does not run: it executes ops, not submodules. Remove the hook, put it "
                    "on the whole model, or apply the plan with on_mismatch='eager'."
                )
