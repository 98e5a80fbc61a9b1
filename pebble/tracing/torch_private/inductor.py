"""Inductor: its compiler with a partitioner of ours, and what keeps the order of a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import fx

from pebble.tracing.torch_private.fusion_choices import order_kept

Partition = Callable[..., tuple[fx.GraphModule, fx.GraphModule]]

_FORCE_STRIDES = "inductor_force_stride_order"

_ORDER_KEPT: dict[str, Any] = {
    "reorder_for_peak_memory": False,
    "reorder_for_locality": False,
    "reorder_for_compute_comm_overlap": False,
    # A buffer that waits to be used again is held meanwhile.
    "allow_buffer_reuse": False,
    # What the plan counts as computed inside of other kernels is not to be stored.
    "realize_reads_threshold": 64,
    "realize_acc_reads_threshold": 64,
    "realize_cpu_acc_reads_threshold": 64,
    # Convolutions keep the layouts that the plan has counted.
    "layout_optimization": False,
}


class NotCompiled(BaseException):
    """Ends a compilation whose joint graph has been seen; no error."""


def compile_graph(
    module: fx.GraphModule, inputs: Sequence[Any], partition: Partition, key: Any
) -> Callable[..., Any]:
    """What inductor makes of a graph, forward and backward halves cut by a partition of ours.

    Parameters
    ----------
    module : fx.GraphModule
        As dynamo gives it; it is not changed.
    inputs : sequence
        Real tensors, whose sizes are fixed in what is compiled.
    partition : callable
        From the joint graph after inductor's own passes to the two halves.
    key : object
        What the halves depend on besides the graph: part of inductor's cache key. None: nothing
        is cached.
    """
    # Importing inductor costs a second.
    from torch._inductor.compile_fx import compile_fx

    copied = fx.GraphModule(module, _copied(module.graph))
    patches = {"custom_partitioner_fn": _partitioner(partition, key), **_kept()}
    with order_kept(), _both_halves_now():
        made: Any = compile_fx(copied, list(inputs), config_patches=patches)
    return cast(Callable[..., Any], made)


def default_compile(module: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """What inductor makes of a graph by itself."""
    from torch._inductor.compile_fx import compile_fx

    copied = fx.GraphModule(module, _copied(module.graph))
    made: Any = compile_fx(copied, list(inputs))
    return cast(Callable[..., Any], made)


def keep_in_memory(graph: fx.Graph, node: fx.Node) -> None:
    """Have inductor store a pointwise result that it might compute again in each reader."""
    made: torch.Tensor = node.meta["val"]
    force = getattr(torch.ops.prims, _FORCE_STRIDES).default
    with graph.inserting_after(node):
        stored = graph.call_function(force, (node, list(made.stride())))
    stored.meta = dict(node.meta)
    node.replace_all_uses_with(stored, delete_user_cb=lambda user: user is not stored)


def _copied(graph: fx.Graph) -> fx.Graph:
    copy = fx.Graph()
    places: dict[fx.Node, fx.Node] = {}
    result = copy.graph_copy(graph, places)
    copy.output(result)
    return copy


@contextlib.contextmanager
def _both_halves_now() -> Iterator[None]:
    """The backward half is compiled with the forward, not in the first backward."""
    from torch._functorch import config

    with config.patch(force_non_lazy_backward_lowering=True):
        yield


def _kept() -> dict[str, Any]:
    from torch._inductor import config

    return {name: value for name, value in _ORDER_KEPT.items() if hasattr(config, name)}


def _partitioner(partition: Partition, key: Any) -> Any:
    from torch._inductor.custom_graph_pass import CustomPartitionerFn

    class PebblePartitioner(CustomPartitionerFn):
        """Cuts a joint graph by a plan."""

        def __call__(
            self, gm: fx.GraphModule, joint_inputs: Sequence[object], **kwargs: Any
        ) -> tuple[fx.GraphModule, fx.GraphModule]:
            return partition(gm, joint_inputs, **kwargs)

        def uuid(self) -> Any:
            return key

    return PebblePartitioner()
