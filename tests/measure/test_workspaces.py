"""Workspace of single ops, and the allocator's peak of whole steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pebble.measure.allocator import trace_memory
from pebble.measure.sampling import Sampler, distinct_calls
from pebble.measure.workspaces import measure_workspaces
from pebble.referee import simulate
from pebble.runtime.boxed_code import compile_boxed
from pebble.runtime.split_graphs import split
from pebble.schedule import Schedule
from pebble.tracing import Captured, capture


class Function(nn.Module):
    """A function of a weight and inputs as a module with a scalar loss."""

    def __init__(self, function: Callable[..., torch.Tensor], *shape: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(*shape))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(self.weight, *inputs).square().mean()


def convolution(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.gelu(F.max_pool2d(F.conv2d(x, weight, padding=1), 2))


def attention(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (x @ weight).view(2, 24, 3, 4, 8).permute(2, 0, 3, 1, 4)
    return F.dropout(F.scaled_dot_product_attention(q, k, v, is_causal=True), 0.2)


def language(weight: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    hidden = F.layer_norm(F.embedding(ids, weight), (16,))
    return F.cross_entropy(hidden @ weight.T, ids)


def sorting(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    values, order = (x * weight).sort(dim=-1)
    return values.gather(1, order) + values.cumsum(-1)


def indexing(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return weight[rows].index_put((rows % 7,), torch.ones(16))


def masking(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (x * weight).index_put((x > -100,), torch.zeros(()))


def normalised(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.relu(F.batch_norm(x * weight, None, None, training=True)).softmax(-1)


STEPS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "convolution": (lambda: Function(convolution, 8, 4, 3, 3), (torch.randn(2, 4, 16, 16),)),
    "attention": (lambda: Function(attention, 32, 96), (torch.randn(2, 24, 32),)),
    "language": (lambda: Function(language, 50, 16), (torch.arange(50).repeat(4),)),
    "sorting": (lambda: Function(sorting, 33), (torch.randn(20, 33),)),
    "indexing": (lambda: Function(indexing, 40, 16), (torch.arange(39),)),
    "masking": (lambda: Function(masking, 16), (torch.randn(20, 16),)),
    "normalised": (lambda: Function(normalised, 12, 1), (torch.randn(6, 12, 10),)),
}


def allocated(captured: Captured, given: list[torch.Tensor]) -> int:
    """The allocator's peak of the captured step with everything kept."""
    halves = split(captured, Schedule.keep_all(captured.graph))
    forward, backward = compile_boxed(halves.forward), compile_boxed(halves.backward)

    def step() -> Any:
        with torch.no_grad():
            results = list(forward(list(given)))
            held, passed = results[: halves.n_outputs], results[halves.n_outputs :]
            results.clear()
            root = [torch.ones(tuple(s.node.meta["val"].shape)) for s in captured.tangents]
            passed += root
            return held, backward(passed), root

    step()
    return trace_memory(step).peak


@pytest.mark.parametrize("name", STEPS)
def test_simulated_peak_is_the_allocators(name: str) -> None:
    make, inputs = STEPS[name]
    model = make()
    captured = capture(model, inputs)
    workspaces = measure_workspaces(captured)
    assert workspaces.measured
    graph = captured.graph.with_measures(workspaces=workspaces.bytes)
    predicted = simulate(graph, Schedule.keep_all(graph)).peak
    given = [model.weight.detach(), *inputs]
    named = {slot.name: slot for slot in captured.slots if slot.node.op == "placeholder"}
    order = [given[0] if name == "weight" else given[1 + int(name[5:-1])] for name in named]
    assert predicted == allocated(captured, order)


def test_an_internal_temporary_is_found() -> None:
    captured = capture(Function(attention, 32, 96), (torch.randn(2, 24, 32),))
    workspaces = dict(
        zip((op.kind for op in captured.graph.ops), measure_workspaces(captured).bytes)
    )
    dropout = next(w for kind, w in workspaces.items() if "native_dropout_backward" in kind)
    assert dropout >= 4 * 2 * 4 * 24 * 8, "the mask as floats"


def test_measuring_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    captured = capture(model, (torch.randn(4, 8),))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    first = measure_workspaces(captured)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert measure_workspaces(captured) == first
    assert first.threads == torch.get_num_threads()


def test_fake_tensors_are_not_measured() -> None:
    with FakeTensorMode():
        captured = capture(nn.Linear(4, 4), (torch.randn(2, 4),))
    workspaces = measure_workspaces(captured)
    assert not workspaces.measured
    assert set(workspaces.bytes) == {0}


def test_an_op_above_the_limit_is_skipped_and_named() -> None:
    captured = capture(Function(language, 50, 16), (torch.arange(50),))
    workspaces = measure_workspaces(captured, limit_bytes=1000)
    assert not workspaces.measured
    assert workspaces.skipped
    assert set(workspaces.skipped) <= {op.name for op in captured.graph.ops}


def test_the_users_loss_is_the_boundarys_workspace() -> None:
    def loss(out: torch.Tensor) -> torch.Tensor:
        return out.exp().log().square().mean()

    plain = capture(nn.Linear(64, 64), (torch.randn(32, 64),))
    with_loss = capture(nn.Linear(64, 64), (torch.randn(32, 64),), loss=loss)
    size = 4 * 32 * 64
    found = measure_workspaces(with_loss)
    assert found.measured
    assert found.bytes[with_loss.graph.boundary] >= 2 * size
    assert measure_workspaces(plain).bytes[plain.graph.boundary] < 64


def test_a_norm_under_autocast_is_measured() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    with torch.autocast("cpu", torch.bfloat16):
        captured = capture(model, (torch.randn(8, 16),), loss=lambda out: out.float().mean())
    workspaces = measure_workspaces(captured)
    assert workspaces.skipped == ()
    assert workspaces.measured


def test_sampled_arguments_have_the_captured_layout_and_valid_indices() -> None:
    captured = capture(Function(language, 50, 16), (torch.arange(50),))
    calls, of_op = distinct_calls(captured)
    assert len(of_op) == len(captured.graph.ops)
    sampler = Sampler()
    for call in calls:
        args, kwargs = sampler.arguments(call)
        real = list(torch.utils._pytree.tree_leaves((args, kwargs)))
        real = [t for t in real if isinstance(t, torch.Tensor)]
        for tensor, like in zip(real, call.tensors, strict=True):
            assert (tensor.shape, tensor.stride()) == (like.shape, like.stride())
    gather = next(c for c in calls if "embedding.default" in str(c.node.target))
    indices = sampler.arguments(gather)[0][1]
    assert 0 <= int(indices.min()) < int(indices.max()) < 50


def test_checks_and_pivots_are_run_on_numbers_that_pass() -> None:
    class Solves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(3 * torch.eye(16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hot = nn.functional.one_hot(x.argmax(-1), 8)
            return (torch.linalg.solve(self.weight, x) * hot).sum()

    captured = capture(Solves(), (torch.randn(16, 8),))
    found = measure_workspaces(captured)
    assert found.measured and found.skipped == ()
    by_name = dict(zip((op.name for op in captured.graph.ops), found.bytes))
    assert by_name["linalg_lu_solve"] > 0
    assert by_name["_assert_async"] == 0
