"""What a training step keeps besides activations, each storage once, and its optimizer step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from pebble.budget import Resident
from pebble.cards import CARDS
from pebble.errors import InvalidArgument
from pebble.measure.card_workspaces import CUBLAS_HANDLES, cublas_bytes
from pebble.measure.optimizers import OptimizerMemory, Weight
from pebble.measure.sparse_optimizers import Table, sparse_optimizer_memory
from pebble.tracing.signature import HELD, Slot, SlotKind
from pebble.tracing.sparse_gradients import indices_of
from pebble.tracing.torch_private.storages import storage_id

if TYPE_CHECKING:
    from torch import fx

    from pebble.tracing import Captured

_KINDS = {
    SlotKind.PARAMETER: "parameters",
    SlotKind.BUFFER: "buffers",
    SlotKind.INPUT: "inputs",
    SlotKind.CONSTANT: "constants",
}


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step that no schedule changes.

    Attributes
    ----------
    kinds : mapping
        Bytes by kind (parameters, optimizer state, buffers, inputs ...), there during forward and
        backward beside the graph's own values (activations, gradients, outputs).
    gradients : int
        Values of the graph; counted here for the optimizer step only.
    outputs : int
        Outputs that the caller holds; values of the graph as well.
    optimizer : OptimizerMemory
    overhead : mapping
        Named terms outside torch's allocator, which no budget counts (CUDA context).
    """

    kinds: Mapping[str, int]
    gradients: int
    outputs: int
    optimizer: OptimizerMemory
    overhead: Mapping[str, int] = field(default_factory=dict)

    @property
    def resident(self) -> Resident:
        """What no schedule changes, and the peak while the optimizer steps."""
        total = sum(self.kinds.values())
        peak = total + self.gradients + self.outputs + self.optimizer.temporaries
        return Resident(self.kinds, 0 if self.optimizer.name == "none" else peak)


def step_memory(
    captured: Captured,
    *,
    optimizer: str | torch.optim.Optimizer | None = None,
    implementation: str | None = None,
    model: nn.Module | None = None,
) -> StepMemory:
    """What a captured step keeps besides activations.

    Parameters
    ----------
    captured : Captured
    optimizer : str, torch.optim.Optimizer or None
        None: no state and no optimizer step.
    implementation : "for-loop", "foreach" or "fused", optional
        How torch's optimizer walks over the parameters; default: what torch picks on the device.
    model : nn.Module, optional
        The model that was captured: then parameters and buffers that the step does not touch
        count as well, and an optimizer object's state is that of the trained parameters alone.

    Raises
    ------
    InvalidArgument
        If the optimizer is unknown; lists the choices.
    """
    memory = sparse_optimizer_memory(
        optimizer,
        [_weight(slot) for slot in trainable(captured) if slot.node not in captured.sparse],
        _tables(captured, model),
        device=captured.device,
        implementation=implementation,
        trained=None if model is None else _trained(captured, model),
    )
    kinds = dict.fromkeys(_KINDS.values(), 0)
    seen: set[int] = set()
    for slot in captured.slots:
        value = captured.value_of[slot.node]
        if slot.kind in _KINDS and value not in seen:
            seen.add(value)
            kinds[_KINDS[slot.kind]] += captured.graph.values[value].size
    if captured.input_bytes is not None:
        kinds["inputs"] = captured.input_bytes
    for kind, size in ({} if model is None else _idle(captured, model)).items():
        kinds[kind] += size
    kinds["optimizer state"] = memory.state
    kinds["library workspace"] = library_workspace(captured.device, captured.card)
    return StepMemory(
        kinds={kind: size for kind, size in kinds.items() if size or kind == "parameters"},
        gradients=_internal(captured, (*captured.gradients.values(), *indices_of(captured.sparse))),
        outputs=_internal(captured, (o.node for o in captured.outputs if o.kind in HELD)),
        optimizer=memory,
        overhead={} if captured.card else context_overhead(captured.device),
    )


def check_optimizer(optimizer: str | torch.optim.Optimizer | None, model: nn.Module) -> None:
    """Refuse an optimizer object that steps over none of the model's parameters.

    Raises
    ------
    InvalidArgument
        Its state would not be counted.
    """
    own = {id(parameter) for parameter in model.parameters()}
    if not isinstance(optimizer, torch.optim.Optimizer) or not own:
        return
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise InvalidArgument(
            f"The {type(optimizer).__name__} holds no parameter of this {type(model).__name__}: it "
            "was made of another model, or of this one before its parameters were replaced. Make "
            "it of model.parameters(), or pass its name."
        )


def trainable(captured: Captured) -> list[Slot]:
    """The parameters that get a gradient; a tied weight once."""
    return [
        slot
        for slot in captured.slots
        if slot.kind is SlotKind.PARAMETER and captured.gradients.get(slot.node) is not None
    ]


def _trained(captured: Captured, model: nn.Module) -> frozenset[int]:
    """Identities of the model's parameters that get a gradient."""
    names = {name for slot in trainable(captured) for name in (slot.name, *slot.aliases)}
    named = model.named_parameters(remove_duplicate=False)
    return frozenset(id(parameter) for name, parameter in named if name in names)


def _idle(captured: Captured, model: nn.Module) -> dict[str, int]:
    """Bytes of the model's parameters and buffers that the captured step does not touch."""
    touched = {name for slot in captured.slots for name in (slot.name, *slot.aliases)}
    held: dict[str, list[tuple[str, torch.Tensor]]] = {
        "parameters": [*model.named_parameters(remove_duplicate=False)],
        "buffers": [*model.named_buffers(remove_duplicate=False)],
    }
    seen = {
        storage_id(tensor) for named in held.values() for name, tensor in named if name in touched
    }
    found = dict.fromkeys(held, 0)
    for kind, named in held.items():
        for _, tensor in named:
            if storage_id(tensor) not in seen:
                seen.add(storage_id(tensor))
                found[kind] += tensor.untyped_storage().nbytes()
    return found


def _weight(slot: Slot) -> Weight:
    like = slot.node.meta["val"]
    return Weight(tuple(like.shape), like.dtype, tuple(like.stride()))


def _tables(captured: Captured, model: nn.Module | None) -> list[Table]:
    """The parameters whose gradients are sparse."""
    named = {} if model is None else dict(model.named_parameters(remove_duplicate=False))
    found = []
    for slot in trainable(captured):
        rows = captured.gradients[slot.node]
        if slot.node in captured.sparse and rows is not None:
            key = id(named[slot.name]) if slot.name in named else None
            found.append(Table(_weight(slot), rows.meta["val"].shape[0], key))
    return found


def _internal(captured: Captured, nodes: Iterable[fx.Node | None]) -> int:
    """Bytes of the graph's own values behind these nodes, each once."""
    values = {captured.value_of[node] for node in nodes if node is not None}
    sizes = (captured.graph.values[v] for v in values)
    return sum(value.size for value in sizes if not value.external)


# -- the framework's share -------------------------------------------------------------------------


def library_workspace(device: str, card: str | None = None) -> int:
    """Bytes that cuBLAS takes from torch's allocator at its first use and keeps; 0 elsewhere.

    Parameters
    ----------
    card : str, optional
        The one that is planned for, where it is not at hand.
    """
    place = torch.device(device)
    if card is not None and place.type == "cuda":
        return cublas_bytes(CARDS[card].sm)
    if place.type != "cuda" or not torch.cuda.is_available():
        return 0 if place.type != "cuda" else cublas_bytes(0)
    ask = getattr(torch.backends.cuda, "cublas_workspace_size", None)
    if ask is not None:
        return CUBLAS_HANDLES * int(ask())
    major, minor = torch.cuda.get_device_capability(place)
    return cublas_bytes(10 * major + minor)


def context_overhead(device: str) -> dict[str, int]:
    """Device memory that torch's allocator does not know of (context, driver, other processes)."""
    place = torch.device(device)
    if place.type != "cuda" or not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info(place)
    return {"CUDA context": max(total - free - torch.cuda.memory_reserved(place), 0)}
