"""A plan as a snapshot of torch's memory: what ``pytorch.org/memory_viz`` reads.

The form is that of `torch.cuda.memory._snapshot` (torch/csrc/cuda/memory_snapshot.cpp): segments
with their blocks, and a trace of what was allocated and freed, here by a schedule in the simulated
caching allocator.
"""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import dataclass, field
from typing import Any

from pebble.allocator.blocks import Block
from pebble.allocator.caching import CachingAllocator
from pebble.allocator.rules import AllocatorSettings
from pebble.allocator.training_events import training_events
from pebble.budget import value_kind
from pebble.graph import Op
from pebble.plan.figures import PlanView
from pebble.plan.peak_moment import OPTIMIZER_STEP, op_word
from pebble.textfile import write_bytes

_BASE = 0x7F0000000000
"""Where the addresses begin, as on a card."""
_PROTOCOL = 4
"""The viewer's own reader of pickles knows 2 to 4."""
_SOURCE = re.compile(r"(.*?):(\d+)(?:: |$)")
_OTHER = "unknown"
"""The viewer fails on events with categories where none of them is called so."""


def write_memory_snapshot(view: PlanView, path: str | os.PathLike[str]) -> None:
    """Write the snapshot of a plan.

    Raises
    ------
    InvalidArgument
        If the folder is missing or nothing can be written there.
    """
    content = pickle.dumps(memory_snapshot(view), protocol=_PROTOCOL)
    write_bytes(path, content, what="The memory snapshot")


def memory_snapshot(view: PlanView) -> dict[str, Any]:
    """A plan's training step as `torch.cuda.memory._snapshot` would give it; one device.

    What is resident comes first, one allocation a kind, then forward and backward op by op, then
    what the optimizer's step takes for a moment. The time is the number of the event.
    """
    card, footprint = _Card(), view.footprint
    resident = footprint.resident
    for kind, size in resident.kinds.items():
        if size:
            card.allocate(kind, size, [_frame(kind, "", 0)], kind)
    events = training_events(footprint, view.schedule)
    copies = view.trace.kept.value.tolist()
    makers = view.trace.kept.start.tolist()
    frames = _step_frames(view)
    for tensor, size in events.step:
        if not size:
            card.free(tensor)
        elif tensor < len(copies):
            kind = value_kind(view.graph, copies[tensor])
            card.allocate(tensor, size, frames[makers[tensor]], kind)
        else:
            card.allocate(tensor, size, frames[tensor - len(copies)], "workspace")
    temporaries = sum(events.temporaries)
    if temporaries:
        card.allocate(OPTIMIZER_STEP, temporaries, [_frame(OPTIMIZER_STEP, "", 0)], OPTIMIZER_STEP)
        card.free(OPTIMIZER_STEP)
    return {
        "segments": card.segments(),
        "device_traces": [card.trace],
        "allocator_settings": {"expandable_segments": False},
        "external_annotations": [],
    }


def _step_frames(view: PlanView) -> list[list[dict[str, Any]]]:
    """The stack of each step of the schedule: the op, and the line that it comes from."""
    made = [_frames(op, again=False) for op in view.graph.ops]
    again = [_frames(op, again=True) for op in view.graph.ops]
    seen: set[int] = set()
    found = []
    for op in view.schedule.order:
        found.append(again[op] if op in seen else made[op])
        seen.add(op)
    return found


def _frames(op: Op, *, again: bool) -> list[dict[str, Any]]:
    where = f" of {op.module}" if op.module else ""
    name = f"{op_word(op)}{where} [{op.name}]{', computed again' if again else ''}"
    known = _SOURCE.match(op.source)
    return [_frame(name, known[1], int(known[2])) if known else _frame(name, "", 0)]


def _frame(name: str, filename: str, line: int) -> dict[str, Any]:
    return {"filename": filename, "line": line, "name": name}


@dataclass
class _Held:
    """A tensor in its block."""

    block: Block
    frames: list[dict[str, Any]]


@dataclass
class _Card:
    """The simulated card, which writes down what happens."""

    card: CachingAllocator = field(default_factory=lambda: CachingAllocator(AllocatorSettings()))
    trace: list[dict[str, Any]] = field(default_factory=list)
    held: dict[object, _Held] = field(default_factory=dict)
    begun: list[tuple[int, int, bool]] = field(default_factory=list)  # address, size, small

    def allocate(
        self, tensor: object, size: int, frames: list[dict[str, Any]], category: str
    ) -> None:
        before = self.card.reserved
        block = self.card.allocate(size)
        grown = self.card.reserved - before
        if grown:
            self.begun.append((block.address, grown, block.pool.small))
            self._note("segment_alloc", block.address, grown, frames)
        self.held[tensor] = _Held(block, frames)
        self._note("alloc", block.address, size, frames, category)

    def free(self, tensor: object) -> None:
        held = self.held.pop(tensor)
        address, size = held.block.address, held.block.requested
        for action in ("free_requested", "free_completed"):
            self._note(action, address, size, held.frames)
        self.card.free(held.block)

    def _note(
        self,
        action: str,
        address: int,
        size: int,
        frames: list[dict[str, Any]],
        category: str = _OTHER,
    ) -> None:
        self.trace.append(
            {
                "action": action,
                "addr": _BASE + address,
                "size": int(size),
                "stream": 0,
                "frames": frames,
                "time_us": len(self.trace),
                "category": category,
            }
        )

    def segments(self) -> list[dict[str, Any]]:
        """What is reserved at the end, and the blocks in it."""
        by_address = sorted(self.held.values(), key=lambda held: held.block.address)
        return [
            _segment(
                start, size, small,
                [held for held in by_address if start <= held.block.address < start + size],
            )
            for start, size, small in self.begun
        ]  # fmt: skip


def _segment(start: int, size: int, small: bool, held: list[_Held]) -> dict[str, Any]:
    blocks, at = [], start
    for one in held:
        block = one.block
        if block.address > at:
            blocks.append(_block(at, block.address - at, 0, "inactive", []))
        blocks.append(
            _block(block.address, block.size, block.requested, "active_allocated", one.frames)
        )
        at = block.address + block.size
    if at < start + size:
        blocks.append(_block(at, start + size - at, 0, "inactive", []))
    taken = sum(one.block.size for one in held)
    return {
        "device": 0,
        "address": _BASE + start,
        "total_size": size,
        "allocated_size": taken,
        "active_size": taken,
        "requested_size": sum(one.block.requested for one in held),
        "stream": 0,
        "segment_type": "small" if small else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": blocks,
    }


def _block(
    address: int, size: int, requested: int, state: str, frames: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "address": _BASE + address,
        "size": size,
        "requested_size": int(requested),
        "state": state,
        "frames": frames,
    }
