"""The head and the loss of a captured step, computed a few tokens at a time (operator fission).

In a language model the logits set the floor of any schedule: one op needs several matrices of
tokens by vocabulary at once, and recomputation cannot split an op. Here the projection, the loss
and their backward are split over the tokens. Each chunk computes its logits, its part of the loss
and at once the gradients of its hidden states and of the weight, for a root gradient of one; only
one chunk of logits is ever alive. The backward multiplies these gradients by the true root
gradient over the number of tokens that count. Sums over tokens are taken in another order, so the
result is that of the whole loss up to rounding, not bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from pebble.errors import InvalidArgument
from pebble.tracing.captured import Captured
from pebble.tracing.fake_metadata import correct_metadata
from pebble.tracing.graph_builder import build_graph
from pebble.tracing.loss_fission import LossFission
from pebble.tracing.loss_region import find_region
from pebble.tracing.output_templates import without
from pebble.tracing.signature import (
    HELD,
    Output,
    Slot,
    StepSignature,
    results_of,
    stands_outside,
)
from pebble.tracing.sparse_gradients import indices_of

_SHARE, _GOOD_ROWS = 8, 256


def chunk_loss(captured: Captured, chunks: int) -> Captured:
    """The same step with its largest cross entropy split over the tokens.

    Parameters
    ----------
    captured : Captured
    chunks : int
        Into how many parts of (nearly) equal numbers of tokens.

    Returns
    -------
    Captured
        Its `whole` is `captured`. Outputs as large as the logits are None.

    Raises
    ------
    InvalidArgument
        If the number makes no sense, or the step has no such loss; says what stands in the way.

    Notes
    -----
    The idea of computing gradients along with each chunk's loss is that of fused linear cross
    entropy kernels (Hsu et al., Liger Kernel, 2024; Wijmans et al., Cut Your Losses, 2024); here
    it is a rewrite of the traced graph, so that plans count its bytes.
    """
    whole = captured.whole or captured
    if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 2:
        raise InvalidArgument(
            f"chunked_loss is {chunks!r}; pass 'auto', False, or a number of chunks from 2 on."
        )
    region = find_region(whole)
    if chunks > region.rows:
        raise InvalidArgument(
            f"chunked_loss is {chunks}, but the loss has {region.rows} rows (tokens) only."
        )
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    results = graph.graph_copy(whole.joint.graph, new)
    graph.output(results)
    tangents = frozenset(slot.node for slot in whole.tangents)
    replaced = LossFission(graph, region, new, chunks, tangents).run()
    outputs = [o for o in whole.outputs if o.node not in region.forms]
    old: list[Any] = results_of(whole.joint.graph)
    kept = [n for n, was in zip(results_of(graph), old) if was is None or was not in region.forms]
    graph.output_node().args = (kept,)
    graph.eliminate_dead_code()
    graph.lint()
    joint = fx.GraphModule(whole.joint, graph, "PebbleChunked")
    correct_metadata(joint)
    return _captured(whole, joint, lambda n: replaced.get(new[n], new[n]), outputs, chunks)


def _captured(
    whole: Captured,
    joint: fx.GraphModule,
    moved: Callable[[fx.Node], fx.Node],
    kept: list[Output],
    chunks: int,
) -> Captured:
    """The capture of the rewritten joint graph."""
    slots = [replace(slot, node=moved(slot.node)) for slot in whole.slots]
    tangents = [Slot(t.kind, t.name, moved(t.node)) for t in whole.tangents]
    gradients = {
        moved(node): None if gradient is None else moved(gradient)
        for node, gradient in whole.gradients.items()
    }
    sparse = {
        moved(node): replace(gradient, indices=moved(gradient.indices))
        for node, gradient in whole.sparse.items()
    }
    held = [output for output in whole.outputs if output.kind in HELD]
    dropped = [i for i, output in enumerate(held) if output not in kept]
    outputs = [replace(output, node=moved(output.node)) for output in kept]
    built = build_graph(
        joint,
        StepSignature.of(slots, tangents, outputs, gradients, indices_of(sparse)),
        name=whole.graph.name,
        loss_outside=stands_outside(whole.loss, tangents),
    )
    return replace(
        whole,
        joint=joint,
        **vars(built),
        slots=tuple(slots),
        outputs=tuple(outputs),
        gradients=gradients,
        sparse=sparse,
        tangents=tuple(tangents),
        template=without(whole.template, dropped),
        chunks=chunks,
        whole=whole,
    )


def suggest_chunks(captured: Captured, room: int) -> int:
    """A number of chunks for which the loss takes a small part of these bytes.

    The fewest chunks (a power of two) whose logits fill an eighth of the room, but no chunk so
    small that the projection runs badly, unless it would not fit otherwise.

    Parameters
    ----------
    captured : Captured
    room : int
        Bytes for everything that is not resident.

    Raises
    ------
    InvalidArgument
        If the loss cannot be split.
    """
    region = find_region(captured.whole or captured)
    wide = {captured.value_of[n]: n.meta["val"].untyped_storage().nbytes()
            for n in region.forms if n in captured.value_of}  # fmt: skip
    largest = max(
        sum(wide.get(v, 0) for v in (*op.inputs, *op.outputs)) for op in captured.graph.ops
    )
    chunks = 2
    while 2 * chunks <= region.rows and (
        largest > room * chunks // _SHARE
        and (region.rows >= 2 * chunks * _GOOD_ROWS or largest > room * chunks // 2)
    ):
        chunks *= 2
    return chunks
