"""One trace for every batch size: a step of fake tensors, traced at a prime batch, is rescaled.

A size that depends on the batch is then a multiple of that prime, and no other size is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from pebble.errors import InvalidArgument
from pebble.graph import Graph
from pebble.measure.costs import op_costs
from pebble.measure.memory import step_memory
from pebble.measure.step import Step
from pebble.measure.workspaces import measure_workspaces
from pebble.tracing import Captured
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private import pytree

_PRIMES = (10007, 10009, 10037, 10039, 10061)


def tracer_batch(model: nn.Module) -> int:
    """A prime that divides no dimension of the model's parameters and buffers.

    Examples
    --------
    >>> tracer_batch(nn.Linear(10007, 4))
    10009
    """
    sizes = {n for t in (*model.parameters(), *model.buffers()) for n in t.shape if n}
    for prime in _PRIMES:
        if all(n % prime for n in sizes):
            return prime
    raise InvalidArgument(
        f"The parameters of {type(model).__name__} have dimensions divisible by each of "
        f"{', '.join(map(str, _PRIMES))}, which tell the batch from other sizes; trace every "
        "batch size with pebble.step.trace_step."
    )


def rescale(step: Step, traced_at: int, inputs: Inputs, batch: int) -> Step:
    """A fake step traced at a prime batch as it is at another batch; for planning, not to run.

    Parameters
    ----------
    step : Step
        Traced with a batch of `traced_at` (see `tracer_batch`).
    traced_at : int
    inputs : Inputs
        Of the wanted batch.
    batch : int

    Returns
    -------
    Step
        Sizes, costs and memory of the batch. Where an op's code depends on the batch (a batch of
        one is at times copied less), a true trace may differ.
    """
    captured = _rescaled(step.captured, traced_at, batch)
    optimizer, costs = step.options.optimizer, step.options.costs
    memory = step_memory(captured, optimizer=optimizer, model=step.model)
    graph = measure_workspaces(captured).on(captured.graph)
    if isinstance(costs, str):
        graph = graph.with_measures(costs=op_costs(captured, costs))
    sketch = replace(
        step,
        captured=captured,
        graph=graph,
        resident=memory.resident,
        whole=None if step.whole is None else rescale(step.whole, traced_at, inputs, batch),
    )
    return sketch.with_inputs(inputs)


def _rescaled(captured: Captured, prime: int, batch: int) -> Captured:
    graph = _rescaled_graph(captured.graph, prime, batch)
    twin: dict[fx.Node, fx.Node] = {}
    copy = fx.Graph()
    for node in captured.joint.graph.nodes:
        new = copy.node_copy(node, twin.__getitem__)
        new.args = _scaled(new.args, prime, batch)
        new.kwargs = _scaled(new.kwargs, prime, batch)
        new.meta = {**node.meta}
        if "val" in node.meta:
            new.meta["val"] = _scaled(node.meta["val"], prime, batch)
        twin[node] = new
    module = fx.GraphModule(captured.joint, copy)
    return replace(
        captured,
        whole=None,
        input_bytes=None,  # `Step.with_inputs` counts those of the batch
        joint=module,
        graph=graph,
        op_nodes=tuple(tuple(twin[n] for n in nodes) for nodes in captured.op_nodes),
        value_of={twin[n]: v for n, v in captured.value_of.items()},
        slots=tuple(replace(slot, node=twin[slot.node]) for slot in captured.slots),
        outputs=tuple(replace(out, node=twin[out.node]) for out in captured.outputs),
        gradients={twin[n]: g and twin[g] for n, g in captured.gradients.items()},
        sparse={
            twin[n]: replace(sparse, indices=twin[sparse.indices])
            for n, sparse in captured.sparse.items()
        },
    )


def _rescaled_graph(graph: Graph, prime: int, batch: int) -> Graph:
    values = [
        replace(v, size=_times(v.size, prime, batch), spec=_text(v.spec, prime, batch))
        for v in graph.values
    ]
    ops = [replace(op, kind=_text(op.kind, prime, batch)) for op in graph.ops]
    return Graph(ops, values, name=graph.name, boundary=graph.boundary)


def _times(size: int, prime: int, batch: int) -> int:
    return size // prime * batch if size % prime == 0 else size


@functools.lru_cache(maxsize=1 << 14)
def _text(text: str, prime: int, batch: int) -> str:
    def number(match: re.Match[str]) -> str:
        scaled = _times(int(match[0]), prime, batch)
        return match[0] if scaled == int(match[0]) else str(scaled)

    return re.sub(r"\d+", number, text)


def _scaled(tree: Any, prime: int, batch: int) -> Any:
    """Tensors without memory and integers of another batch in place of those of the prime."""

    def leaf(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            shape, stride = _sizes(item.shape, prime, batch), _sizes(item.stride(), prime, batch)
            return torch.empty_strided(shape, stride, dtype=item.dtype, device="meta")
        if isinstance(item, int) and not isinstance(item, bool):
            return _times(item, prime, batch)
        return item

    return pytree.tree_map(leaf, fx.map_arg(tree, lambda node: node))


def _sizes(sizes: Iterable[int], prime: int, batch: int) -> tuple[int, ...]:
    return tuple(_times(int(n), prime, batch) for n in sizes)
