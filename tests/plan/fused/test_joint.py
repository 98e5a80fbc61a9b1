"""Graphs of dynamo with numbers for sizes, and keys that hold the plan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from pebble.options import StepOptions
from pebble.plan.fused.joint import FusedStep, see_step, with_fixed_sizes
from pebble.schedule import Schedule


def graphs_of(model: nn.Module, x: torch.Tensor, **options: Any) -> list[tuple[Any, Any]]:
    """The graphs that dynamo gives a back end, with their inputs."""
    torch._dynamo.reset()
    found: list[tuple[fx.GraphModule, tuple[Any, ...]]] = []

    def back_end(module: fx.GraphModule, _: Any) -> Any:
        def run(*inputs: Any) -> Any:
            found.append((module, inputs))
            return module(*inputs)

        return run

    torch.compile(model, backend=back_end, **options)(x)
    torch._dynamo.reset()
    return found


def test_sizes_become_numbers() -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(x.shape[0] * 2, -1) * x.shape[0]

    x = torch.randn(6, 4)
    ((module, inputs),) = graphs_of(Flat(), x, dynamic=True)
    assert any(not isinstance(value, torch.Tensor) for value in inputs)
    fixed = with_fixed_sizes(module, inputs)
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    assert len([n for n in fixed.graph.nodes if n.op == "placeholder"]) == len(tensors)
    torch.testing.assert_close(fixed(*tensors)[0], Flat()(x))


def test_the_step_is_the_decomposed_one_and_its_key_holds_the_plan() -> None:
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU())
    x = torch.randn(8, 16)
    ((module, inputs),) = graphs_of(model, x)
    step = see_step(module, inputs, StepOptions(optimizer="sgd"))
    assert isinstance(step, FusedStep)
    graph = step.footprint.graph
    kinds = [op.kind for op in graph.ops]
    assert not any("gelu" in kind or "layer_norm" in kind for kind in kinds)
    assert step.footprint.resident.kinds["parameters"] == sum(p.nbytes for p in model.parameters())
    whole = Schedule.keep_all(graph)
    again = Schedule((*whole.order[:-1], 0, whole.order[-1]))
    assert step.key(whole) == step.key(Schedule.keep_all(graph)) != step.key(again)


def test_without_gradients_there_is_nothing_to_plan() -> None:
    model, x = nn.Linear(4, 4), torch.randn(2, 4)
    with torch.no_grad():
        ((module, inputs),) = graphs_of(model, x)
        made = see_step(module, inputs, StepOptions(optimizer=None))
        assert not isinstance(made, FusedStep)
        torch.testing.assert_close(made(*inputs)[0], model(x))


pytestmark = pytest.mark.slow  # inductor is imported
