"""The snapshot for torch's viewer: its form, its opcodes, and the bytes that it shows."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict
from torch.cuda import _memory_viz

from pebble.plan.memory_snapshot import memory_snapshot
from tests.plan.planned import tower_plan

pytestmark = pytest.mark.usefixtures("one_thread")

READ_BY_THE_VIEWER = {
    "APPEND", "APPENDS", "BINGET", "BININT", "BININT1", "BININT2", "BINUNICODE", "EMPTY_DICT",
    "EMPTY_LIST", "EMPTY_TUPLE", "FRAME", "LONG1", "LONG_BINGET", "MARK", "MEMOIZE", "NEWFALSE",
    "NEWTRUE", "NONE", "PROTO", "SETITEM", "SETITEMS", "SHORT_BINUNICODE", "STOP", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3",
}  # fmt: skip
"""Opcodes that `unpickle` of torch/utils/viz/MemoryViz.js knows."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Frame(Strict):
    filename: str
    line: int
    name: str


class Block(Strict):
    address: int
    size: int
    requested_size: int
    state: Literal["active_allocated", "inactive"]
    frames: list[Frame]


class Segment(Strict):
    device: int
    address: int
    total_size: int
    allocated_size: int
    active_size: int
    requested_size: int
    stream: int
    segment_type: Literal["small", "large"]
    segment_pool_id: tuple[int, int]
    is_expandable: bool
    frames: list[Frame]
    blocks: list[Block]


class Event(Strict):
    action: Literal["alloc", "free_requested", "free_completed", "segment_alloc"]
    addr: int
    size: int
    stream: int
    frames: list[Frame]
    time_us: int
    category: str


class Snapshot(Strict):
    segments: list[Segment]
    device_traces: list[list[Event]]
    allocator_settings: dict[str, Any]
    external_annotations: list[Any]


def test_it_has_the_form_of_torchs_own() -> None:
    found = Snapshot.model_validate(memory_snapshot(tower_plan().view))
    for segment in found.segments:
        at = segment.address
        for block in segment.blocks:  # the viewer adds their sizes up
            assert block.address == at
            at += block.size
        assert at == segment.address + segment.total_size


def test_the_viewer_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.pickle"
    tower_plan().to_memory_viz(path)
    content = path.read_bytes()
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(content)}
    assert opcodes <= READ_BY_THE_VIEWER
    assert pickle.loads(content) == memory_snapshot(tower_plan().view)


def test_torchs_own_readers_take_it() -> None:
    snapshot = memory_snapshot(tower_plan().view)
    events = snapshot["device_traces"][0]
    text = _memory_viz.trace(snapshot)
    begun = sum(event["action"] == "segment_alloc" for event in events)
    assert text.count("cudaMalloc(") == begun == len(snapshot["segments"])
    assert text.count("# free completed for") == sum(
        e["action"] == "free_completed" for e in events
    )
    assert "segments" in _memory_viz.segsum(snapshot)


def test_the_highest_sum_is_the_predicted_peak() -> None:
    plan = tower_plan()
    events = memory_snapshot(plan.view)["device_traces"][0]
    held, most = 0, 0
    for event in events:
        if event["action"] == "alloc":
            held += event["size"]
        elif event["action"] == "free_completed":
            held -= event["size"]
        most = max(most, held)
    assert most == plan.peak_bytes
    kinds = {event["category"] for event in events}
    assert {"parameters", "activations", "gradients", "unknown"} <= kinds


def test_blocks_are_never_in_one_another() -> None:
    open_at: dict[int, int] = {}
    for event in memory_snapshot(tower_plan().view)["device_traces"][0]:
        if event["action"] == "alloc":
            assert all(
                event["addr"] + event["size"] <= at or at + size <= event["addr"]
                for at, size in open_at.items()
            )
            open_at[event["addr"]] = event["size"]
        elif event["action"] == "free_completed":
            assert open_at.pop(event["addr"]) == event["size"]


def test_the_stack_is_the_line_of_the_op() -> None:
    frames = [
        event["frames"][0]
        for event in memory_snapshot(tower_plan().view)["device_traces"][0]
        if event["category"] == "activations"
    ]
    lines = [frame for frame in frames if frame["filename"] == "plan/planned.py"]
    assert len(lines) > 0.8 * len(frames)
    assert all(frame["line"] > 0 for frame in lines)
    assert any("computed again" in frame["name"] for frame in frames)
