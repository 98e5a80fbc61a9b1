"""The modules, parameters and buffers that a plan was made for, checked at every call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.runtime.side_entrances import Watch
from pebble.runtime.tensor_spec import TensorSpec, mismatch
from pebble.tracing.activation_hooks import marks_activations
from pebble.tracing.captured import Captured
from pebble.tracing.model_in_trace import works_in_the_graph
from pebble.tracing.signature import Slot
from pebble.tracing.torch_private.modules import (
    call_hooks,
    child_of,
    drop_hooks,
    has_call_hooks,
    store_of,
    stored,
)

Place = tuple[int, str, str]


@dataclass(frozen=True)
class ModuleSpec:
    """One module of the tree: where it hangs, what it is, and what of it the graph depends on."""

    parent: int
    key: str
    name: str
    kind: str
    training: bool
    own_forward: bool
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
            own = bool(name) and "forward" in vars(module)
            modules.append(ModuleSpec(index[parent], key, name, kind, mode, own, _settings(module)))
        tensors = []
        for slot in slots:
            spec = TensorSpec.of(slot, slot.node in captured.gradients)
            places = []
            for path in (slot.name, *slot.aliases):
                owner, _, key = path.rpartition(".")
                held = model.get_submodule(owner) if owner in index else None
                store = None if held is None else store_of(held, key)
                if store is None:
                    raise PlanMismatch(
                        f"The plan needs {path!r}, which this {type(model).__name__} lacks."
                    )
                places.append((index[owner], store, key))
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
                raise mismatch(f"{spec.name!r} was a {spec.kind}", f", but is {now}.")
            found.append(module)
        for module, spec in zip(found, self.modules):
            if module.training is not spec.training:
                raise mismatch(
                    f"{spec.name or 'The model'!r} was planned in {_mode(spec.training)} mode",
                    f", but is in {_mode(module.training)} mode.",
                )
            if spec.name and has_call_hooks(module):
                _check_module_hooks(spec.name, module)
            state = module.__dict__
            if spec.name and ("forward" in state) is not spec.own_forward:
                raise mismatch(f"The forward of {spec.name!r} was replaced after planning.", "")
            for key, value in spec.settings:
                if state.get(key) != value:
                    raise mismatch(
                        f"{key!r} of {spec.name or 'the model'!r} was {value!r}",
                        f", but is {state.get(key)!r}.",
                    )
        return self._tensors(found)

    def _tensors(self, found: list[nn.Module]) -> list[torch.Tensor]:
        tensors = []
        for places, expected in self.tensors:
            owner, store, key = places[0]
            tensor: Any = stored(found[owner], store, key)
            expected.check(tensor)
            for owner, store, key in places[1:]:
                if stored(found[owner], store, key) is not tensor:
                    raise mismatch(
                        f"{expected.name!r} was one tensor with "
                        f"{self.modules[owner].name}.{key} at planning",
                        ", but is no longer.",
                    )
            tensors.append(tensor)
        return tensors

    def check_hooks(self, model: nn.Module) -> None:
        """Raise `PlanMismatch` if a submodule has a hook that a planned step would not run."""
        for name, module in model.named_modules():
            if name:
                _check_module_hooks(name, module)


def remove_untraced_hooks(model: nn.Module) -> None:
    """Take the hooks off a model and its modules that no planned step runs."""
    for module in model.modules():
        drop_hooks(module, lambda hook: not (_is_traced(hook) or marks_activations(hook)))


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


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
    """Hooks whose work is part of the graph, and ours, which see calls past the whole model."""
    return isinstance(hook, Watch) or works_in_the_graph(hook)


def _check_module_hooks(name: str, module: nn.Module) -> None:
    for kind, hook in call_hooks(module):
        if marks_activations(hook):
            continue
        if not _is_traced(hook):
            what = (
                f"{name!r} has a hook ({kind}), which a planned step does not run: it executes "
                "ops, not submodules."
            )
            raise PlanMismatch(
                f"{what} Remove the hook, put it on the whole model, or apply the plan with "
                "on_mismatch='eager'.",
                planned=what,
            )
