"""A plan as a trace for chrome://tracing and Perfetto: its ops over time, and the memory beneath.

The form is the Trace Event Format (Google, 2016): complete events for ops, counters for bytes,
times in microseconds.
"""

from __future__ import annotations

import json
import os
from typing import Any

from pebble.graph import Op
from pebble.plan.figures import PlanView
from pebble.plan.peak_moment import op_word
from pebble.textfile import write_text

_PID = 1
_LANES = {"forward": 1, "backward": 2, "computed again": 3}


def write_chrome_trace(view: PlanView, path: str | os.PathLike[str]) -> None:
    """Write the trace of a plan.

    Raises
    ------
    InvalidArgument
        If the folder is missing or nothing can be written there.
    """
    text = json.dumps(chrome_trace(view), separators=(",", ":"))
    write_text(path, text, what="The trace")


def chrome_trace(view: PlanView) -> dict[str, Any]:
    """A plan's forward and backward, one op after the other, as long as its cost says."""
    figures, trace = view.figures, view.trace
    events = [_name("process_name", 0, f"{figures.model}, a plan of pebble")]
    events += [_name("thread_name", lane, name) for name, lane in _LANES.items()]
    seen: set[int] = set()
    at = 0
    for step, (index, live) in enumerate(zip(view.schedule.order, trace.live.tolist())):
        op = view.graph.ops[index]
        half = "forward" if step < trace.forward_steps else "backward"
        events.append(_memory(at, figures.resident_bytes, live, figures.budget_bytes))
        events.append(_op(op, step, at, "computed again" if index in seen else half))
        seen.add(index)
        at += op.cost
    events.append(_memory(at, figures.resident_bytes, 0, figures.budget_bytes))
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "budget_bytes": figures.budget_bytes,
            "peak_bytes": figures.peak_bytes,
            "unplanned_peak_bytes": figures.unplanned.peak_bytes,
        },
    }


def _op(op: Op, step: int, at_ns: int, lane: str) -> dict[str, Any]:
    return {
        "name": op_word(op),
        "cat": lane,
        "ph": "X",
        "ts": at_ns / 1000,
        "dur": op.cost / 1000,
        "pid": _PID,
        "tid": _LANES[lane],
        "args": {
            "op": op.name,
            "step": step,
            "module": op.module,
            "source": op.source,
            "workspace_bytes": op.workspace,
        },
    }


def _memory(at_ns: int, resident: int, live: int, budget: int) -> dict[str, Any]:
    return {
        "name": "memory in bytes",
        "ph": "C",
        "ts": at_ns / 1000,
        "pid": _PID,
        "args": {"resident": resident, "step": live, "left": max(budget - resident - live, 0)},
    }


def _name(what: str, lane: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "ts": 0, "pid": _PID, "tid": lane, "args": {"name": name}}
