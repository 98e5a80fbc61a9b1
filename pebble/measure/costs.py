"""Time of an op: from a device's roofline, from counted work, or measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pebble.errors import InvalidArgument
from pebble.measure.card_counters import seconds_of
from pebble.measure.flops import Work, op_flops, work_of
from pebble.measure.sampling import Call, Sampler, distinct_calls, quiet_state

if TYPE_CHECKING:
    from pebble.tracing import Captured

__all__ = ["DEVICES", "Device", "op_costs", "op_flops"]

_DOUBLE, _HALVES = torch.float64, (torch.bfloat16, torch.float16)
_RUNS, _LEAST_RUNS, _SECONDS_A_CALL = 15, 3, 0.05
_timed: dict[tuple[Any, ...], int] = {}


@dataclass(frozen=True)
class Device:
    """Published peaks of a device.

    Attributes
    ----------
    fp32, half, fp64 : float
        Dense tera-FLOP/s: fp32 without TF32 (torch's default for products), fp16/bf16 with fp32
        accumulation and without sparsity.
    bandwidth : float
        Of the device's memory, GB/s.
    latency : int
        Nanoseconds that the smallest op takes.
    bf16 : bool
        Whether bf16 has units of its own; else it runs at the speed of fp32.
    scalar : float, optional
        tera-FLOP/s outside matrix arithmetic (exponentials, random numbers), where it is less
        than fp32.
    """

    fp32: float
    half: float
    fp64: float
    bandwidth: float
    latency: int = 4000
    bf16: bool = True
    scalar: float | None = None

    def flops_per_ns(self, work: Work) -> float:
        """Rate at which the device does this arithmetic."""
        rate = self.fp32 if work.dense or self.scalar is None else self.scalar
        if work.dtype is _DOUBLE and work.dense:
            rate = self.fp64
        elif work.dense and work.dtype in _HALVES and (self.bf16 or work.dtype is torch.float16):
            rate = self.half
        return rate * 1e3

    def nanoseconds(self, work: Work) -> int:
        """Roofline: arithmetic or traffic, whichever takes longer, after the launch."""
        longest = max(work.flops / self.flops_per_ns(work), work.bytes / self.bandwidth)
        return self.latency + round(longest)


# Peaks from the makers' data sheets (NVIDIA T4, V100, L4, A10, A100 80 GB SXM, H100 SXM, H200 SXM,
# B200 and the GA102/AD102 architecture papers; AMD MI300X). "cpu" stands for a small machine of two
# to four cores, with rates measured on one: traffic partly from its caches.
DEVICES: Mapping[str, Device] = {
    "cpu": Device(0.2, 0.2, 0.1, 40.0, latency=1500, scalar=0.01),
    "t4": Device(8.1, 65.0, 0.25, 320.0, bf16=False),
    "v100": Device(15.7, 125.0, 7.8, 900.0, bf16=False),
    "l4": Device(30.3, 121.0, 0.47, 300.0),
    "a10": Device(31.2, 125.0, 0.49, 600.0),
    "rtx3090": Device(35.6, 71.0, 0.56, 936.0),
    "rtx4090": Device(82.6, 165.2, 1.29, 1008.0),
    "a100": Device(19.5, 312.0, 9.7, 2039.0),
    "h100": Device(67.0, 989.0, 34.0, 3350.0),
    "h200": Device(67.0, 989.0, 34.0, 4800.0),
    "b200": Device(75.0, 2250.0, 37.0, 8000.0),
    "mi300x": Device(163.4, 1307.4, 81.7, 5300.0),
}
_UNKNOWN_GPU = "a100"
# The machine of costs="flops": no latency, and 100 FLOP for a byte whatever the dtype.
_PLAIN_MACHINE = Device(100.0, 100.0, 100.0, 1000.0, latency=0)


def op_costs(captured: Captured, costs: str = "auto") -> list[int]:
    """Time of every op of a captured step.

    Parameters
    ----------
    captured : Captured
    costs : str
        ``"auto"``: the roofline of the device of the inputs. ``"roofline:<device>"``: larger of
        arithmetic over peak and bytes over bandwidth, plus the launch (Williams et al. 2009).
        ``"flops"``: counted work on a fixed machine (100 TFLOP/s, 1 TB/s, sum of the two).
        ``"profile"``: each distinct op is timed on the device (median of the faster half
        of several runs).

    Returns
    -------
    list of int
        Nanoseconds, one an op of ``captured.graph``, at least 1; 0 for the boundary.

    Raises
    ------
    InvalidArgument
        If `costs` is unknown (lists the choices), or "profile" is asked of a fake capture.
    """
    if costs == "profile":
        return _profile(captured)
    return costs_of_works(op_works(captured), captured, costs)


def op_works(captured: Captured) -> list[Work | None]:
    """What each op of a captured step does; None for the boundary."""
    calls, of_op = distinct_calls(captured)
    works = [work_of(call.node) for call in calls]
    return [None if which is None else works[which] for which in of_op]


def costs_of_works(works: Iterable[Work | None], captured: Captured, costs: str) -> list[int]:
    """Time of ops that do this much, on the device of a step; not for ``"profile"``."""
    device = None if costs == "flops" else _device(captured, costs)
    time_of = _plain if device is None else device.nanoseconds
    return [0 if work is None else max(time_of(work), 1) for work in works]


def loop_costs(captured: Captured, loops: Iterable[int], costs: str = "auto") -> dict[int, int]:
    """Time of ops for which a compiler writes loops: what they read and write over the bandwidth.

    Arithmetic between the two is hidden behind the traffic, and a launch is shared.

    Returns
    -------
    dict of int to int
        Op -> nanoseconds, at least 1.
    """
    named = costs not in ("flops", "profile")
    device = _device(captured, costs) if named else DEVICES[_kind_of(captured.device)]
    device = _PLAIN_MACHINE if costs == "flops" else device
    values = captured.graph.values
    found = {}
    for i in loops:
        op = captured.graph.ops[i]
        traffic = sum(values[v].size for v in (*op.inputs, *op.outputs))
        found[i] = max(round(traffic / device.bandwidth), 1)
    return found


def _plain(work: Work) -> int:
    machine = _PLAIN_MACHINE
    return round(work.flops / machine.flops_per_ns(work) + work.bytes / machine.bandwidth)


def check_costs(costs: str) -> None:
    """Refuse costs of an unknown name.

    Raises
    ------
    InvalidArgument
        Lists the choices.
    """
    prefix, _, name = str(costs).partition(":")
    known = prefix == "roofline" and name.lower() in DEVICES
    if not known and costs not in ("auto", "flops", "profile"):
        raise InvalidArgument(
            f"Costs {costs!r} are not known; choose 'auto', 'flops', 'profile' or "
            f"'roofline:<device>' with one of {', '.join(DEVICES)}."
        )


def _device(captured: Captured, costs: str) -> Device:
    check_costs(costs)
    if costs == "auto":
        return DEVICES[_kind_of(captured.device)]
    return DEVICES[costs.partition(":")[2].lower()]


def _kind_of(device: str) -> str:
    place = torch.device(device)
    if place.type == "cpu":
        return "cpu"
    if place.type == "cuda" and torch.cuda.is_available():
        full = torch.cuda.get_device_name(place).lower().replace(" ", "")
        for name in sorted(DEVICES, key=len, reverse=True):
            if name in full:
                return name
    return _UNKNOWN_GPU


# -- measured ------------------------------------------------------------------------------------


def _profile(captured: Captured) -> list[int]:
    if captured.fake:
        raise InvalidArgument(
            "costs='profile' runs every op, but this model has fake tensors; choose 'auto', "
            "'flops' or 'roofline:<device>'."
        )
    calls, of_op = distinct_calls(captured)
    times = _times(calls, captured.device)
    return [0 if which is None else times[which] for which in of_op]


def _times(calls: Sequence[Call], device: str) -> list[int]:
    place = (device, torch.get_num_threads())
    sampler = Sampler(device)
    with quiet_state(device):
        for call in calls:
            if (place, call.key) not in _timed:
                _timed[place, call.key] = _time(call, sampler, device)
    return [_timed[place, call.key] for call in calls]


def _time(call: Call, sampler: Sampler, device: str) -> int:
    """Nanoseconds of a call, interruptions left out; from the roofline if it cannot run alone."""
    target: Any = call.node.target
    try:
        args, kwargs = sampler.arguments(call)
        target(*args, **kwargs)
    except Exception:  # whatever an op may raise on arguments it does not like
        return DEVICES[_kind_of(device)].nanoseconds(work_of(call.node))
    place = torch.device(device)
    if place.type == "cuda":  # a single launch would be timed more than the kernel
        mean = seconds_of(lambda: target(*args, **kwargs), place, repeats=_RUNS)
        return max(round(mean * 1e9), 1)
    taken: list[int] = []
    while len(taken) < _LEAST_RUNS or (len(taken) < _RUNS and sum(taken) < _SECONDS_A_CALL * 1e9):
        start = time.perf_counter_ns()
        result = target(*args, **kwargs)
        taken.append(time.perf_counter_ns() - start)
        del result
    undisturbed = sorted(taken)[: (len(taken) + 1) // 2]
    return max(round(statistics.median(undisturbed)), 1)
