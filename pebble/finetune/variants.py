"""A traced step under other circumstances: another optimizer, quantised weights, accumulation.

Nothing is traced again: these change what is resident, and what ops take besides their values.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.measure.costs import DEVICES
from pebble.measure.memory import StepMemory, step_memory
from pebble.measure.rank_memory import ranks_here, resident_of
from pebble.measure.step import Step
from pebble.measure.weights import dequantised_bytes, stored_bytes
from pebble.tracing.step_form import StepForm

_NO_DEVICE = "cpu"
PCIE = 12.0
"""GB/s between host and device that paged optimizer state moves at (PCIe 3.0 x16, measured by many
at 11 to 13)."""


def frozen_linears(model: nn.Module) -> dict[str, torch.Tensor]:
    """Frozen weights of linear layers by name: what quantised fine-tuning stores in few bits.

    The output head and tied weights are left out, as is usual.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and not module.weight.requires_grad
        and id(module.weight) not in tied
    }


def frozen_or_error(model: nn.Module, form: str) -> dict[str, torch.Tensor]:
    """The same, not empty.

    Raises
    ------
    InvalidArgument
        If there is nothing to quantise.
    """
    frozen = frozen_linears(model)
    if not frozen:
        raise InvalidArgument(
            f"quantize={form!r} stores frozen weights of linear layers, but the model has none; "
            "freeze it and add adapters (LoRA)."
        )
    return frozen


def packed_bytes(weight: torch.Tensor, form: str) -> int:
    """Bytes of a weight in a storage format."""
    rows, columns = weight.shape
    return stored_bytes(form, rows, columns)


def memory_of(step: Step, optimizer: str | torch.optim.Optimizer | None) -> StepMemory:
    """What the step keeps with an optimizer."""
    captured = replace(step.captured, graph=step.graph)  # with the sizes that kernels make
    return step_memory(captured, optimizer=optimizer, model=step.model)


def with_optimizer(step: Step, optimizer: str | None) -> Step:
    """The step with another optimizer."""
    ranks = step.options.ranks or ranks_here()
    memory, adds = memory_of(step, optimizer), step.captured.accumulates
    changed = replace(
        step.asked(optimizer=optimizer),
        resident=resident_of(memory, step.model, ranks, accumulates=adds),
        whole=None if step.whole is None else with_optimizer(step.whole, optimizer),
    )
    return changed.with_inputs(step.inputs)


def with_accumulation(step: Step, accumulation_steps: int) -> Step:
    """The step as it runs from the second micro-batch on, if it has several."""
    if accumulation_steps < 2 or step.captured.accumulates:
        return step
    step_then = step.asked(accumulation_steps=accumulation_steps)
    captured = StepForm(accumulates=True).transform(step.captured)
    costs = [op.cost for op in step.graph.ops]
    there = {"accumulated gradients": memory_of(step, None).gradients}
    return replace(
        step_then,
        captured=captured,
        graph=captured.graph.with_bytes_of(step.graph).with_measures(costs=costs),
        resident=replace(step.resident, kinds={**step.resident.kinds, **there}),
        whole=None if step.whole is None else with_accumulation(step.whole, accumulation_steps),
    )


def with_buckets(step: Step) -> Step:
    """The step under DistributedDataParallel, its buckets beside the gradients of the backward.

    With ``gradient_as_bucket_view=True`` the buckets are what accumulation adds to, so nothing
    comes on top there.
    """
    if step.captured.accumulates:
        return step
    kinds = {**step.resident.kinds, "gradient buckets": memory_of(step, None).gradients}
    return replace(
        step,
        resident=replace(step.resident, kinds=kinds),
        whole=None if step.whole is None else with_buckets(step.whole),
    )


def with_quantised(step: Step, form: str) -> Step:
    """The step with its frozen linear weights stored in few bits, unpacked where they are used.

    Every op that reads such a weight has it in the step's own dtype as a temporary, and takes as
    long more as reading the packed and writing the unpacked one takes.

    Raises
    ------
    InvalidArgument
        If nothing can be quantised or the format is unknown.
    """
    frozen = frozen_or_error(step.model, form)
    value_of = {
        name: step.captured.value_of[slot.node]
        for slot in step.captured.slots
        for name in (slot.name, *slot.aliases)
    }
    packed = {name: packed_bytes(w, form) for name, w in frozen.items()}
    unpacked = {name: dequantised_bytes(w.numel(), w.itemsize) for name, w in frozen.items()}
    by_value = {value_of[name]: name for name in frozen if name in value_of}
    graph = step.graph
    costs, workspaces = [], []
    for op in graph.ops:
        read = [by_value[v] for v in op.inputs if v in by_value]
        moved = sum(packed[name] + unpacked[name] for name in read)
        costs.append(op.cost + round(moved / bandwidth_of(step)))
        workspaces.append(op.workspace + sum(unpacked[name] for name in read))
    saved = sum(unpacked[name] - packed[name] for name in frozen)
    return replace(
        step,
        graph=graph.with_measures(costs=costs, workspaces=workspaces),
        resident=step.resident.with_kind("parameters", step.resident.kinds["parameters"] - saved),
        whole=None if step.whole is None else with_quantised(step.whole, form),
    )


def bandwidth_of(step: Step) -> float:
    """Bytes a nanosecond of the device that the step's costs speak of."""
    device = step.record.costs.removeprefix("roofline:")
    return DEVICES.get(device, DEVICES[_NO_DEVICE]).bandwidth


def seconds_to_step(step: Step) -> float:
    """Time of the optimizer's step: what it reads and writes, at the device's bandwidth.

    Parameters, gradients and state are read, parameters and state are written; paged state comes
    from the host and goes back.
    """
    memory = memory_of(step, step.options.optimizer)
    if memory.optimizer.name == "none":
        return 0.0
    on_device = 3 * memory.gradients + 2 * memory.optimizer.state
    return (on_device / bandwidth_of(step) + 2 * memory.optimizer.host / PCIE) / 1e9
