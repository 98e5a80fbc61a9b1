"""Several micro-batches: exact sums, no second copy of the gradients, nobody else disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.finetune.micro_batch_splits import micro_batches, weighted
from pebble.measure.allocator import trace_memory
from pebble.measure.workspaces import measure_workspaces
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.runtime import build
from pebble.runtime.agreement import difference
from pebble.schedule import Schedule
from pebble.solver import solve
from pebble.tracing import capture
from pebble.tracing.accumulation import accumulated

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 3


def llama(vocabulary: int = 64) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).train()


def batch(padded: bool) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 64, (2 * STEPS, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    if padded:
        for row in range(2 * STEPS):
            labels[row, 12 - 2 * row :] = -100 if row else labels[row, 12:]
    return {"input_ids": ids, "labels": labels}


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def step_over(module: nn.Module, parts: Any) -> list[torch.Tensor]:
    module.zero_grad()
    for inputs, weight in parts:
        (module(**inputs).loss * weight).backward()
    return gradients(module)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "planned", ["not", "kept", pytest.param("chunked", marks=pytest.mark.slow)]
)
def test_micro_batches_sum_to_the_full_batch(padded: bool, planned: str) -> None:
    model, full = llama(), batch(padded)
    expected = step_over(model, [(full, 1.0)])
    module = model
    if planned != "not":
        micro = next(micro_batches(full, STEPS))
        plan = pebble.optimize(
            model, micro, budget_gb=1, optimizer=None, solver="keep_all",
            accumulation_steps=STEPS, chunked_loss=3 if planned == "chunked" else False,
        )  # fmt: skip
        module = plan.apply(model)
    found = step_over(module, weighted(full, STEPS))
    assert len(found) == len(expected) > 10
    assert difference(found, expected) < 2e-6
    if padded:
        plain = step_over(module, [(part, 1 / STEPS) for part in micro_batches(full, STEPS)])
        assert difference(plain, expected) > 1e-2, "the weights are what makes it exact"


@pytest.mark.slow
def test_the_count_can_also_come_as_an_input() -> None:
    """transformers' own way: the loss is a sum over this number of tokens of the full batch."""
    model, full = llama(), batch(True)
    expected = step_over(model, [(full, 1.0)])
    count = (full["labels"][:, 1:] != -100).sum()
    parts = [{**part, "num_items_in_batch": count} for part in micro_batches(full, STEPS)]
    plan = pebble.optimize(model, parts[0], budget_gb=1, optimizer=None, solver="keep_all")
    for module in (model, plan.apply(model)):
        assert difference(step_over(module, [(p, 1.0) for p in parts]), expected) < 2e-6


class Tower(nn.Module):
    """Weights are most of the memory: a second copy of their gradients would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(96, 96) for _ in range(6))
        self.norm = nn.LayerNorm(96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.norm(x).square().mean()


def schedules(graph: pebble.Graph) -> Iterator[Schedule]:
    yield Schedule.keep_all(graph)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    bound = Problem(graph, 0).working_set_bound
    found = solve(Problem(graph, (peak + bound) // 2), "greedy").schedule
    if found is not None:
        yield found


@pytest.mark.parametrize("name", ["tower", pytest.param("llama", marks=pytest.mark.slow)])
def test_a_later_micro_batch_takes_what_is_predicted(name: str) -> None:
    model: nn.Module = Tower() if name == "tower" else llama(512)
    x = torch.randn(8, 96)
    inputs = {"x": x} if name == "tower" else next(micro_batches(batch(False), STEPS))

    def step(module: nn.Module) -> None:
        out = module(**inputs)
        (out if name == "tower" else out.loss).backward()

    captured = accumulated(capture(model, (), inputs))
    first = capture(model, (), inputs).graph
    workspaces = measure_workspaces(captured).bytes
    graph = captured.graph.with_measures(workspaces=workspaces)
    size = sum(p.numel() * 4 for p in model.parameters())
    for schedule in schedules(graph):
        planned = build(model, captured, schedule)
        model.zero_grad()
        once = trace_memory(lambda p=planned: step(p)).peak
        assert once == simulate(first.with_measures(workspaces=workspaces), schedule).peak
        later = [trace_memory(lambda p=planned: step(p)).peak for _ in range(2)]
        assert later == [simulate(graph, schedule).peak] * 2
        assert once <= later[0] + size, "what is planned for also holds for the first"
        if name == "tower":
            assert later[0] < once


@pytest.mark.slow
def test_the_plan_counts_the_gradients_so_far() -> None:
    model, inputs = llama(), next(micro_batches(batch(False), STEPS))
    size = sum(p.numel() * 4 for p in model.parameters())
    one, many = (
        pebble.optimize(model, inputs, budget_gb=1, optimizer=None, solver="keep_all",
                        accumulation_steps=n, chunked_loss=False)
        for n in (1, STEPS)
    )  # fmt: skip
    assert many.resident.kinds["accumulated gradients"] == size
    assert one.peak_bytes < many.peak_bytes <= one.peak_bytes + size
    report = many.validate()
    assert report.ok
    assert report.exact
    assert report.resident_bytes == many.resident.total


@pytest.mark.slow
def test_a_plan_for_several_micro_batches_travels(tmp_path: Any) -> None:
    model, inputs = llama(), next(micro_batches(batch(False), STEPS))
    plan = pebble.optimize(
        model, inputs, budget_gb=1, optimizer=None, solver="keep_all", accumulation_steps=4
    )
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    assert loaded.accumulation_steps == 4
    assert loaded.peak_bytes == plan.peak_bytes
    loaded.apply(model)


# -- nobody else is disturbed ---------------------------------------------------------------------


@pytest.fixture
def planned() -> tuple[nn.Module, nn.Module, torch.Tensor]:
    model, x = Tower(), torch.randn(4, 96)
    captured = capture(model, (x,))
    module = build(model, captured, Schedule.keep_all(captured.graph))
    model(x).backward()
    return model, module, x


def test_autograd_grad_touches_no_gradient(planned: Any) -> None:
    model, module, x = planned
    before = gradients(model)
    found = torch.autograd.grad(module(x), list(model.parameters()))
    assert all(map(torch.equal, found, before))
    assert all(map(torch.equal, gradients(model), before))


def test_only_the_leaves_asked_for_grow(planned: Any) -> None:
    model, module, x = planned
    before = gradients(model)
    chosen = model.layers[0].weight
    module(x).backward(inputs=[chosen])
    for p, was in zip(model.parameters(), before):
        assert torch.equal(p.grad, 2 * was if p is chosen else was)


def test_hooks_see_the_micro_batch_alone(planned: Any) -> None:
    model, module, x = planned
    before, seen = gradients(model), []
    weight = model.layers[0].weight
    weight.register_hook(lambda grad: seen.append(grad.clone()))
    weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    module(x).backward()
    assert torch.equal(seen[0], before[0])
    assert torch.equal(seen[1], 2 * before[0])


def accumulate_node(leaf: torch.Tensor) -> Any:
    """The node of autograd that adds up a leaf's gradient."""
    made = leaf.expand_as(leaf).grad_fn
    assert made is not None
    return made.next_functions[0][0]


def test_hooks_before_the_accumulate_node_change_the_micro_batch_alone(planned: Any) -> None:
    model, module, x = planned
    before = gradients(model)
    node = accumulate_node(model.layers[0].weight)
    node.register_prehook(lambda grads: tuple(g * 10 for g in grads))
    module(x).backward()
    assert torch.allclose(model.layers[0].weight.grad, 11 * before[0])
    assert torch.equal(model.layers[1].weight.grad, 2 * before[2])


def test_hooks_after_the_accumulate_node_see_the_micro_batch(planned: Any) -> None:
    model, module, x = planned
    before, seen = gradients(model), []
    node = accumulate_node(model.layers[0].weight)
    handle = node.register_hook(lambda _, grads: seen.append(grads[0].clone()))
    module(x).backward()
    handle.remove()
    module(x).backward()
    assert len(seen) == 1 and torch.equal(seen[0], before[0])
    assert torch.allclose(model.layers[0].weight.grad, 3 * before[0])


def test_a_gradient_stays_the_same_tensor(planned: Any) -> None:
    model, module, x = planned
    before = [p.grad for p in model.parameters()]
    module(x).backward()
    assert all(p.grad is was for p, was in zip(model.parameters(), before))


def test_a_gradient_of_another_dtype_is_autograds_business(planned: Any) -> None:
    model, module, x = planned
    weight = model.layers[0].weight
    weight.grad = None
    weight.grad_dtype = None
    weight.grad = torch.zeros_like(weight, dtype=torch.float64)
    module(x).backward()
    assert weight.grad.dtype is torch.float64
    assert float(weight.grad.abs().sum()) > 0


def test_a_function_of_a_weight_may_be_planned_over(planned: Any) -> None:
    """Gradients of inputs that are no leaves go on through autograd."""
    model = nn.Linear(4, 4)
    x = torch.randn(2, 4, requires_grad=True)
    captured = capture(model, (x,))
    module = build(model, captured, Schedule.keep_all(captured.graph))
    module(x).sum().backward()
    once = x.grad.clone()
    module(x * 2).sum().backward()
    assert torch.allclose(x.grad, 3 * once)
