"""Sparse gradients are eager's, index for index and bit for bit, within the predicted bytes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pebble
from pebble.errors import CaptureError
from pebble.step import trace_step
from pebble.tracing import capture
from pebble.tracing.sparse_gradients import write_rows
from pebble.tracing.torch_private.sparse_rows import parts

IDS = torch.tensor([[5, 3, 9, 1], [3, 7, 7, 2]])
MORE = torch.tensor([3, 5, 1, 9, 3])


class Tables(nn.Module):
    """A table looked up with every one of the inputs, and what comes of it."""

    def __init__(self, table: nn.Module, *more: nn.Module, by_weight: bool = False) -> None:
        super().__init__()
        self.table, self.more, self.by_weight = table, nn.ModuleList(more), by_weight
        self.head = nn.Linear(8, 8)

    def forward(self, *ids: torch.Tensor) -> torch.Tensor:
        found = [table(each) for table in (self.table, *self.more) for each in ids]
        mixed = [self.head(torch.tanh(rows)) for rows in found]
        if self.by_weight:
            mixed = [F.linear(rows, self.table.weight) for rows in mixed]  # type: ignore[arg-type]
        return torch.stack([rows.square().mean() for rows in mixed]).sum()


def table(**options: Any) -> nn.Embedding:
    return nn.Embedding(20, 8, sparse=True, **options)


def bag(**options: Any) -> nn.EmbeddingBag:
    return nn.EmbeddingBag(20, 8, sparse=True, **options)


class Offsets(nn.Module):
    """Bags of several lengths, each id weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.bags, self.head = bag(mode="sum"), nn.Linear(8, 8)
        self.weights = nn.Parameter(torch.linspace(0.5, 1.5, 8))

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        found = self.bags(ids.flatten(), offsets, per_sample_weights=self.weights)
        loss: torch.Tensor = self.head(torch.tanh(found)).square().mean()
        return loss


CASES = {
    "a table": (Tables(table()), (IDS,)),
    "padding": (Tables(table(padding_idx=3)), (IDS,)),
    "nothing but padding": (Tables(table(padding_idx=3)), (torch.tensor([3, 3]),)),
    "ids of 32 bits": (Tables(table()), (IDS.int(),)),
    "one id": (Tables(table()), (torch.tensor(4),)),
    "used twice": (Tables(table()), (IDS, MORE)),
    "padding, used three times": (Tables(table(padding_idx=3)), (IDS, MORE, IDS)),
    "several tables": (Tables(table(), table()), (IDS,)),
    "tied": (Tables(table(), by_weight=True), (IDS, MORE)),
    "bags of sums": (Tables(bag(mode="sum")), (IDS,)),
    "bags of means, padding": (Tables(bag(mode="mean", padding_idx=3)), (IDS,)),
    "bags by offsets": (Offsets(), (IDS, torch.tensor([0, 3, 3, 6]))),
    "bags used twice": (Tables(bag(mode="mean")), (IDS, IDS.flip(0))),
}


def gradients(module: nn.Module, inputs: tuple[torch.Tensor, ...], steps: int) -> list[Any]:
    """Of the parameters after some steps whose gradients are added up; those in parts."""
    module.zero_grad(set_to_none=True)
    for _ in range(steps):
        module(*inputs).backward()
    found: list[torch.Tensor] = []
    for parameter in module.parameters():
        assert parameter.grad is not None
        sparse = parameter.grad.layout is torch.sparse_coo
        found += parts(parameter.grad) if sparse else (parameter.grad,)
    return found


@pytest.mark.filterwarnings("ignore::pebble.errors.BudgetNotKept")
@pytest.mark.parametrize("name", CASES)
def test_sparse_gradients_are_those_of_eager(name: str) -> None:
    model, inputs = CASES[name]
    eager, model = copy.deepcopy(model), copy.deepcopy(model)
    plan = pebble.optimize(
        model, inputs, budget_bytes=10**9, optimizer=None, solver="recompute_all", costs="flops"
    )
    planned = plan.apply(model)
    for steps in (1, 2):  # the second time autograd adds to what is there
        got, wanted = gradients(planned, inputs, steps), gradients(eager, inputs, steps)
        assert len(got) == len(wanted)
        assert all(map(torch.equal, got, wanted))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a table", marks=pytest.mark.slow),
        "padding",
        pytest.param("used twice", marks=pytest.mark.slow),
        pytest.param("bags of sums", marks=pytest.mark.slow),
    ],
)
def test_the_peak_is_predicted_to_the_byte(name: str) -> None:
    model, inputs = CASES[name]
    inputs = tuple(ids.where(ids != 3, 4) for ids in inputs)  # padding takes less, if any
    plan = pebble.optimize(
        model, inputs, budget_bytes=10**9, optimizer="sgd", solver="keep_all", costs="flops"
    )
    report = plan.validate(repeats=1)
    assert report.measured_peak_bytes == plan.peak_bytes
    assert report.gradients_equal


def test_padding_that_is_left_out_is_counted_as_if_it_were_not() -> None:
    model, (ids,) = CASES["padding"]
    graphs = [
        trace_step(model, given, optimizer=None).graph for given in (ids, ids.where(ids != 3, 4))
    ]
    some, none = ([value.size for value in graph.values] for graph in graphs)
    assert some == none
    some, none = ([op.workspace for op in graph.ops] for graph in graphs)
    assert some == none


def test_a_saved_plan_makes_sparse_gradients(tmp_path: Any) -> None:
    model, inputs = CASES["used twice"]
    plan = pebble.optimize(model, inputs, budget_bytes=10**9, optimizer=None, solver="keep_all")
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    planned = loaded.apply(copy.deepcopy(model))
    wanted = gradients(copy.deepcopy(model), inputs, 1)
    assert all(map(torch.equal, gradients(planned, inputs, 1), wanted))
    dense: Any = copy.deepcopy(model)
    dense.table.sparse = False
    with pytest.raises(pebble.PlanMismatch, match=r"embedding.*True\) in the plan"):
        loaded.apply(dense)


def test_ids_that_the_step_computes_stay_with_the_gradient() -> None:
    class Hashes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Tables(table())

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = self.inner(ids * 7 % 20)
            return loss

    captured = capture(Hashes(), (IDS,))
    (sparse,) = captured.sparse.values()
    indices = captured.graph.values[captured.value_of[sparse.indices]]
    assert indices.pinned
    assert not indices.external
    assert indices.size == IDS.nbytes


def test_a_table_that_is_computed_is_refused_by_name() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(20, 8))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return F.embedding(ids, self.weight * 2, sparse=True).square().sum()

    with pytest.raises(CaptureError, match=r"computes on with it \(aten.mul.*sparse=False"):
        capture(Scaled(), (IDS,))


def test_gradients_by_frequency_are_refused_as_in_eager() -> None:
    with pytest.raises(CaptureError, match=r"scale_grad_by_freq=True.*sparse=False"):
        capture(Tables(table(scale_grad_by_freq=True)), (IDS,))


def test_gradients_that_are_added_up_over_micro_batches_are_refused_by_name() -> None:
    model, inputs = CASES["a table"]
    with pytest.raises(CaptureError, match=r"'table.weight' is sparse.*accumulation_steps=1"):
        pebble.optimize(model, inputs, budget_bytes=10**9, optimizer="sgd", accumulation_steps=2)


def test_a_step_without_sparse_gradients_is_left_as_it_is(monkeypatch: Any) -> None:
    made: list[Any] = []

    def noted(joint: Any, model: nn.Module) -> Any:
        before = str(joint.graph_module.graph)
        made.append((write_rows(joint, model), before == str(joint.graph_module.graph)))
        return made[-1][0]

    monkeypatch.setattr("pebble.tracing.step_capture.write_rows", noted)
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8))
    assert capture(model, (IDS,)).sparse == {}
    assert made == [({}, True)]


def test_a_module_that_plans_by_itself_goes_on_where_micro_batches_are_added_up() -> None:
    model, inputs = CASES["used twice"]
    eager, model = copy.deepcopy(model), copy.deepcopy(model)
    trained = pebble.budgeted(model, budget_bytes=10**7, optimizer=None)
    with pytest.warns(pebble.BudgetNotKept, match="bytes of gradients"):
        got = gradients(trained, inputs, 3)
    assert all(map(torch.equal, got, gradients(eager, inputs, 3)))


def test_torch_compile_refuses_sparse_gradients_by_name() -> None:
    model, inputs = CASES["a table"]
    torch._dynamo.reset()
    compiled = torch.compile(
        copy.deepcopy(model), backend="pebble", options={"budget_bytes": 10**9}
    )
    with pytest.raises(Exception, match="makes a sparse tensor at node"):
        compiled(*inputs).backward()
