"""A schedule becomes two graphs: every execution, every byte and every bit as the referee says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pebble.errors import InvalidSchedule
from pebble.graph import Graph
from pebble.referee import simulate
from pebble.runtime.boxed_code import compile_boxed
from pebble.runtime.split_graphs import split
from pebble.schedule import Schedule
from pebble.tracing import Captured, capture
from tests.runtime.schedules import random_repeats

pytestmark = pytest.mark.usefixtures("one_thread")


class WithLoss(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).square().mean()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.view(2, 6, 2, 4).transpose(1, 2) for t in self.qkv(x).split(8, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(2, 6, 8))


MODELS: dict[str, Any] = {
    "mlp": lambda: (
        nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.3), nn.Linear(16, 4)),
        torch.randn(5, 6),
    ),
    "batch_norm": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3),
            nn.BatchNorm2d(2), nn.Flatten(),
        ),
        torch.randn(2, 3, 8, 8),
    ),
    "attention": lambda: (
        nn.Sequential(nn.LayerNorm(8), nn.Dropout(0.2), Attention()),
        torch.randn(2, 6, 8),
    ),
}  # fmt: skip


def captured_model(name: str) -> tuple[nn.Module, torch.Tensor, Captured]:
    torch.manual_seed(0)
    body, x = MODELS[name]()
    model = WithLoss(body)
    return model, x, capture(model, (x,))


def run(model: nn.Module, x: torch.Tensor, captured: Captured, schedule: Schedule) -> list[Any]:
    """Loss and gradients by the two halves, called by hand."""
    halves = split(captured, schedule)
    held = dict([*model.named_parameters(), *model.named_buffers()])
    given = [
        (held[s.name].detach() if s.name in held else x).clone()
        for s in captured.slots
        if s.node.op == "placeholder"
    ]
    torch.manual_seed(1)
    with torch.no_grad():
        results = list(compile_boxed(halves.forward)(given))
        tape = [*results[halves.n_outputs :], torch.ones(())]
        outputs = results[: halves.n_outputs]
        del results
        return [*outputs, *compile_boxed(halves.backward)(tape)]


@pytest.mark.parametrize("name", MODELS)
def test_any_schedule_gives_the_same_bits(name: str) -> None:
    model, x, captured = captured_model(name)
    expected = run(model, x, captured, Schedule.keep_all(captured.graph))
    for seed, rate in enumerate((0.1, 0.4, 0.9)):
        found = run(model, x, captured, random_repeats(captured.graph, rate, seed))
        assert len(found) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_every_execution_of_the_schedule_is_there_in_its_order(name: str) -> None:
    _, _, captured = captured_model(name)
    schedule = random_repeats(captured.graph, 0.5, 3)
    halves = split(captured, schedule)
    cut = schedule.order.index(captured.graph.boundary)
    ours = {nodes[0].target for nodes in captured.op_nodes if nodes}
    for module, steps in (
        (halves.forward, schedule.order[:cut]),
        (halves.backward, schedule.order[cut + 1 :]),
    ):
        wanted = [captured.op_nodes[op][0].target for op in steps]
        found = [n.target for n in module.graph.nodes if n.op == "call_function"]
        assert [t for t in found if t in ours and t in set(wanted)] == wanted


def test_one_tensor_crosses_the_boundary_per_copy_that_the_backward_reads() -> None:
    _, _, captured = captured_model("attention")
    halves = split(captured, Schedule.keep_all(captured.graph))
    assert len(set(halves.saved)) == len(halves.saved)
    inside = [n for n in halves.saved if not captured.graph.values[captured.value_of[n]].external]
    values = Counter(captured.value_of[node] for node in inside)
    assert set(values.values()) == {1}
    assert captured.views.isdisjoint(halves.saved)
    trace = simulate(captured.graph, Schedule.keep_all(captured.graph))
    tangents = {captured.value_of[s.node] for s in captured.tangents}
    held = {captured.value_of[o.node] for o in captured.outputs}
    assert set(values) - held == set(trace.saved) - tangents - held


def test_a_view_is_shared_while_its_base_is_the_same_copy() -> None:
    _, _, captured = captured_model("attention")
    forward = split(captured, Schedule.keep_all(captured.graph)).forward
    calls = [(n.target, n.args) for n in forward.graph.nodes if n.op == "call_function"]
    assert len(calls) == len({(t, str(a)) for t, a in calls})


def test_arguments_are_boxed_and_freed_at_their_last_use() -> None:
    model, x, captured = captured_model("mlp")
    halves = split(captured, Schedule.keep_all(captured.graph))
    held = dict(model.named_parameters())
    given = [held[s.name].detach() if s.name in held else x for s in captured.slots]
    compile_boxed(halves.forward)(given)
    assert given == []


def test_dropout_draws_once_however_often_its_readers_run() -> None:
    _, _, captured = captured_model("mlp")
    halves = split(captured, random_repeats(captured.graph, 0.9, 0))
    draws = [
        n
        for module in (halves.forward, halves.backward)
        for n in module.graph.nodes
        if torch.Tag.nondeterministic_seeded in getattr(n.target, "tags", ())
    ]
    assert len(draws) == 1


def test_a_schedule_against_the_rules_is_refused() -> None:
    _, _, captured = captured_model("mlp")
    with pytest.raises(InvalidSchedule, match="never runs"):
        split(captured, Schedule((0,)))


def test_random_draws_may_not_be_swapped() -> None:
    class TwoBranches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (F.dropout(self.a(x)) * F.dropout(self.b(x))).sum()

    captured = capture(TwoBranches(), (torch.randn(3, 4),))
    graph = captured.graph
    draws = [i for i, op in enumerate(graph.ops) if "turn_of" in str(turns(graph, op.outputs))]
    assert len(draws) == 2
    early = closure(graph, draws[1])  # all of the second branch that needs no draw
    order = [*early, *(i for i in range(len(graph.ops)) if i not in early)]
    split(captured, Schedule(tuple(order)))
    early.append(draws[1])
    order = [*early, *(i for i in range(len(graph.ops)) if i not in early)]
    with pytest.raises(InvalidSchedule, match="turn_of"):
        split(captured, Schedule(tuple(order)))


def turns(graph: Graph, values: tuple[int, ...]) -> list[str]:
    return [graph.values[v].name for v in values if graph.values[v].spec == "turn"]


def closure(graph: Graph, op: int) -> list[int]:
    """The ops that an op needs before it, but for its turn."""
    needed: set[int] = set()
    todo = [op]
    while todo:
        for v in graph.ops[todo.pop()].inputs:
            producer = int(graph.arrays.producer[v])
            if producer >= 0 and graph.values[v].spec != "turn" and producer not in needed:
                needed.add(producer)
                todo.append(producer)
    return sorted(needed)
