"""Sizes and temporaries are those of the kernels that run, whatever their fakes say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import pebble
from pebble.errors import CaptureError
from pebble.measure.real_step import run_step
from pebble.measure.slot_tensors import slot_tensors
from pebble.measure.step import measure_bytes, trace_step
from pebble.measure.workspaces import measure_workspaces
from pebble.referee import simulate
from pebble.runtime.bench import Bench
from pebble.runtime.step_twin import StepTwin
from pebble.schedule import Schedule
from pebble.tracing import capture
from pebble.tracing.inputs import make_inputs
from tests.runtime.schedules import everything_again

pytestmark = pytest.mark.usefixtures("one_thread")
Weighted = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Function(nn.Module):
    """A function of a weight and an input as a module with a scalar loss."""

    def __init__(self, function: Weighted, *shape: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        square = len(shape) > 1 and shape[-1] == shape[-2]
        well = 3 * torch.eye(shape[-1]) if square else torch.zeros(shape)
        self.weight = nn.Parameter(torch.randn(shape) / 10 + well)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.weight, x).square().mean()


class Bags(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(40, 32, mode=mode), nn.Linear(32, 8)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.bag(words))).square().mean()


def assigned(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    y = x * weight
    y[0] = 0.25
    y[1:3, 2] = weight.sum()
    return y


def put(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (x * weight).index_put((torch.arange(3),), weight, accumulate=True)


def norm_of_transposed(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.relu(F.batch_norm((x * weight).transpose(1, 3), None, None, training=True)).flatten(1)


def shuffled(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.channel_shuffle((x * weight).to(memory_format=torch.channels_last), 2)


def folded(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.fold(F.unfold(x * weight, 3, padding=1), (6, 6), 3, padding=1)


def cholesky(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cholesky(weight @ weight.mT + torch.eye(8)) @ x


def padded(mode: str, dims: int) -> tuple[Weighted, tuple[int, ...], tuple[int, ...]]:
    shape = (2, 3, *([6] * dims))
    return lambda w, x: F.pad(x * w, (1, 2) * dims, mode=mode), (1,), shape


MATRIX = (8, 8), (8, 4)
FUNCTIONS: dict[str, tuple[Weighted, tuple[int, ...], tuple[int, ...]]] = {
    "assigned": (assigned, (8,), (4, 8)),
    "put": (put, (8,), (4, 8)),
    "norm of transposed": (norm_of_transposed, (1,), (4, 6, 8, 5)),
    "shuffled": (shuffled, (1,), (2, 4, 6, 6)),
    "folded": (folded, (1,), (2, 3, 6, 6)),
    "cholesky": (cholesky, *MATRIX),
    "inverse": (lambda w, x: torch.linalg.inv(w) @ x, *MATRIX),
    "solve": (lambda w, x: torch.linalg.solve(w, x), *MATRIX),
    "triangular": (lambda w, x: torch.linalg.solve_triangular(w, x, upper=True), *MATRIX),
    **{
        f"{mode} {dims}d": padded(mode, dims)
        for mode in ("circular", "reflect", "replicate")
        for dims in (1, 2, 3)
    },
}
OFTEN = ("assigned", "norm of transposed", "folded", "solve", "circular 2d")


def norm(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 1), layer, nn.ReLU())


IMAGE, WORDS = torch.randn(2, 4, 5, 5), torch.randint(0, 40, (16, 3))
MODULES: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "batch norm": (lambda: norm(nn.BatchNorm2d(8)), IMAGE),
    "batch norm without weights": (lambda: norm(nn.BatchNorm2d(8, affine=False)), IMAGE),
    "group norm": (lambda: norm(nn.GroupNorm(2, 8)), IMAGE),
    **{f"bags of {mode}": (lambda mode=mode: Bags(mode), WORDS) for mode in ("max", "mean", "sum")},
}


def error_bytes(model: nn.Module, x: torch.Tensor, **options: Any) -> list[int]:
    """Measured less predicted peak with everything kept and with everything made again."""
    step = trace_step(model, x, optimizer=None, **options)
    twin = StepTwin.of(model, step.captured, step.inputs)
    found = []
    for schedule in (Schedule.keep_all(step.graph), everything_again(step.graph)):
        bench = Bench(twin.fresh(), schedule, seed=0)
        bench.peak()
        found.append(bench.peak() - simulate(step.graph, schedule).peak)
    return found


@pytest.mark.parametrize(
    "name",
    [n if n in OFTEN else pytest.param(n, marks=pytest.mark.slow) for n in FUNCTIONS],
)
def test_the_peak_is_predicted_to_the_byte(name: str) -> None:
    function, weight, x = FUNCTIONS[name]
    assert error_bytes(Function(function, *weight), torch.randn(x)) == [0, 0]


@pytest.mark.parametrize("name", MODULES)
def test_so_it_is_under_autocast(name: str) -> None:
    make, x = MODULES[name]
    with torch.autocast("cpu", torch.bfloat16):
        assert error_bytes(make(), x) == [0, 0]


def test_a_loss_that_holds_its_unreduced_result_counts_with_it() -> None:
    found = error_bytes(
        nn.Linear(8, 40), torch.randn(16, 8), loss=lambda y: F.mse_loss(y, torch.zeros_like(y))
    )
    assert found == [0, 0]


class TwoPrecisions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 40)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.mix(x)
        return y.bfloat16(), y.square()


def transposed(y: torch.Tensor) -> torch.Tensor:
    return (y.t().contiguous() * torch.ones(40, 16)).sum()


def test_gradients_that_are_laid_out_anew_count_with_what_they_were() -> None:
    assert error_bytes(TwoPrecisions(), torch.randn(16, 8)) == [0, 0]
    assert error_bytes(nn.Linear(8, 40), torch.randn(16, 8), loss=transposed) == [0, 0]


def test_a_loss_called_under_autocast_is_counted_as_it_runs_there() -> None:
    labels = torch.zeros(16, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16):
        found = error_bytes(
            nn.Linear(8, 400), torch.randn(16, 8), loss=lambda y: F.cross_entropy(y, labels)
        )
    assert max(found) <= 0 and min(found) >= -8


@pytest.mark.parametrize("name", MODULES)
def test_statistics_have_their_kernels_dtype_without_data(name: str) -> None:
    make, x = MODULES[name]
    with torch.autocast("cpu", torch.bfloat16):
        step = trace_step(make(), x, optimizer=None)
        alone = measure_workspaces(capture(make(), (x,)))
    assert alone.skipped == ()
    ours = {v.name: v.size for v in step.captured.graph.values}
    theirs = {v.name: v.size for v in step.graph.values}
    made = [op for op in step.graph.ops if "norm" in op.kind and "backward" not in op.kind]
    for op in made:
        for v in op.outputs:
            value = step.graph.values[v].name
            assert ours[value] == theirs[value]


def test_nothing_of_the_user_changes() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    x = torch.randn(4, 8, requires_grad=True)
    held = [*model.parameters(), *model.buffers(), x]
    before, state = [t.detach().clone() for t in held], torch.get_rng_state()
    versions = [t._version for t in held]
    captured = capture(model, (x,))
    inputs = make_inputs(model, x)
    tensors = slot_tensors(captured, model, inputs)
    assert tensors is not None
    assert run_step(captured, tensors) is not None
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(held, before))
    assert versions == [t._version for t in held]
    assert all(t.grad is None for t in held if t.requires_grad)
    assert not torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


def test_a_loss_that_writes_to_an_output_leaves_the_input_alone() -> None:
    class Shows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.mix(x), x

    def loss(out: Any) -> Any:
        return (out[0] * out[1].mul_(0)).sum()

    model, x = Shows(), torch.ones(4, 8)
    captured = capture(model, (x.clone(),), loss=loss)
    assert measure_bytes(captured, model, make_inputs(model, x)).measured
    assert torch.equal(x, torch.ones(4, 8))


def test_an_op_that_refuses_the_numbers_leaves_the_others_measured_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Function(lambda w, x: torch.linalg.cholesky(w * x), 8, 8)
    logger = logging.getLogger("pebble")
    logger.addHandler(caplog.handler)
    try:
        step = trace_step(model, -torch.eye(8), optimizer=None)
    finally:
        logger.removeHandler(caplog.handler)
    assert "measured alone" in caplog.text
    assert any(op.workspace for op in step.graph.ops)


def test_a_view_that_real_strides_do_not_allow_is_refused() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Flatten(0))
    x = torch.randn(4, 8)
    captured = capture(model, (x,))
    tensors = slot_tensors(captured, model, make_inputs(model, x))
    assert tensors is not None
    view = next(n for n in captured.joint.graph.nodes if n.target is torch.ops.aten.view.default)
    view.args = (view.args[0], [33])
    with pytest.raises(CaptureError, match="lays it out otherwise"):
        run_step(captured, tensors)


def test_a_plan_made_without_data_applies_with_the_bytes_of_the_kernels() -> None:
    with FakeTensorMode():
        plan = pebble.optimize(Bags("max"), torch.zeros(16, 3, dtype=torch.long), budget_gb=1)
    model = Bags("max")
    step = plan.step_of(model, WORDS)
    here = plan.on(step)
    assert here.peak_bytes == pebble.optimize(model, WORDS, budget_gb=1).peak_bytes
    assert here.peak_bytes != plan.peak_bytes


def test_a_prediction_does_not_depend_on_earlier_plans() -> None:
    function, weight, x = FUNCTIONS["assigned"]
    alone = measure_workspaces(capture(Function(function, *weight), (torch.randn(x),)))
    trace_step(nn.Linear(8, 40_000), torch.randn(4, 8))
    again = measure_workspaces(capture(Function(function, *weight), (torch.randn(x),)))
    assert alone == again
