"""What cannot be captured is refused with the reason and the line."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import CaptureError, InvalidArgument, StateNotKept
from pebble.tracing import capture
from tests.tracing.capturing import Function, X, agree


def line_of(function: Callable[..., Any], offset: int) -> str:
    return f"{Path(__file__).name}:{function.__code__.co_firstlineno + offset}"


def test_data_dependent_control_flow_names_the_line() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return self.first(x)
        return x

    with pytest.raises(CaptureError) as caught:
        capture(Function(forward), (X,))
    assert line_of(forward, 1) in str(caught.value)
    assert "torch.where" in str(caught.value)


@pytest.mark.parametrize("what", ["item", "mask"])
def test_numbers_and_sizes_that_depend_on_data_name_the_line(what: str) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if what == "item":
            return self.first(x) * x.sum().item()
        return self.first(x)[x > 0]

    with pytest.raises(CaptureError, match="depends on data") as caught:
        capture(Function(forward), (X,))
    assert line_of(forward, 2 if what == "item" else 3) in str(caught.value)


def test_distributions_that_check_their_arguments_are_told_how_not_to() -> None:
    # said outright: whatever compiles with dynamo switches the default off for the whole process
    def drawn(validate: bool) -> Function:
        def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
            spread = self.first(x).exp()
            return torch.distributions.Normal(self.first(x), spread, validate).rsample()

        return Function(forward)

    with pytest.raises(CaptureError, match="validate_args=False"):
        capture(drawn(True), (X,))
    assert capture(drawn(False), (X,)).graph.ops


def test_printing_and_warning_do_not_break_the_graph() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        print("text")  # noqa: T201
        warnings.warn("text", stacklevel=1)
        return self.first(x)

    agree(Function(forward), (X,))


def test_a_forward_that_computes_nothing() -> None:
    with pytest.raises(CaptureError, match="computes nothing"):
        capture(Function(lambda self, x: None), (X,))


def test_an_error_of_the_model_names_the_line() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.first(x @ x)

    with pytest.raises(CaptureError) as caught:
        capture(Function(forward), (X,))
    assert line_of(forward, 1) in str(caught.value)


def test_lstm_works_or_says_why() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]

    with pytest.raises(CaptureError, match=r"LSTMCell"):
        capture(Function(forward, lstm=nn.LSTM(8, 8)), (X,))


def test_written_tensor_that_is_no_buffer() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return self.first(x) * self.count

    model = Function(forward)
    model.count = torch.zeros(())
    with pytest.raises(CaptureError, match="register_buffer"):
        capture(model, (X,))


def test_a_buffer_that_is_replaced_is_refused() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.norm.running_mean = self.norm.running_mean * 0.5
        return self.first(x)

    model = Function(forward, norm=nn.BatchNorm1d(8))
    before = model.norm.running_mean
    with pytest.raises(CaptureError, match="copy_"):
        capture(model, (X,))
    assert model.norm.running_mean is before


def test_a_refusal_does_not_depend_on_what_other_threads_do_to_warnings() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.norm.running_mean = self.norm.running_mean * 0.5
        return self.first(x)

    done = threading.Event()

    def other() -> None:
        while not done.wait(0.001):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")

    thread = threading.Thread(target=other)
    thread.start()
    try:
        with pytest.raises(CaptureError, match="copy_"):
            capture(Function(forward, norm=nn.BatchNorm1d(8)), (X,))
    finally:
        done.set()
        thread.join()


def test_python_state_that_a_plan_does_not_change_is_told() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(1)
        return self.first(x)

    model = Function(forward)
    model.calls = []
    with pytest.warns(StateNotKept, match=r"changes Python state \(self.calls\)"):
        capture(model, (X,))
    assert model.calls == []


def test_sparse_tensors_of_the_forward_are_refused() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(self.first(x).to_sparse(), x.T)

    with pytest.raises(CaptureError, match="sparse"):
        capture(Function(forward), (X,))


@pytest.mark.parametrize(
    ("model", "inputs", "match"),
    [
        (nn.Linear(8, 8), (torch.ones(4, 7),), r"RuntimeError: .*\[4, 7\] X \[8, 8\]\. Check that"),
        (nn.Conv2d(3, 4, 3), (torch.ones(2, 1, 8, 8),), "RuntimeError: .*channels.* Check that"),
        (nn.Linear(8, 8), (X, X), "too many positional arguments. Check that"),
        (nn.Bilinear(8, 8, 1), (X,), "missing a required argument: 'input2'. Check that"),
    ],
    ids=["features", "channels", "too many", "too few"],
)
def test_wrong_inputs_are_one_sentence_and_no_log(
    model: nn.Module, inputs: Any, match: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CaptureError, match=match) as caught:
        capture(model, inputs)
    assert "FakeTensor" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_plain_average_of_all_batches_names_the_norm() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=None))
    with pytest.raises(CaptureError, match="Give '1' a number as momentum"):
        capture(model, (X,))
    agree(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=None).eval()), (X,))


@pytest.mark.parametrize("norm", ["spectral_norm", "weight_norm", "orthogonal"])
def test_parametrizations_are_no_reason(norm: str) -> None:
    model = getattr(nn.utils.parametrizations, norm)(nn.Linear(8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error", StateNotKept)
        captured = agree(model, (X,))
    updated = {o.name.split(".")[-1] for o in captured.outputs if o.kind.value == "buffer_update"}
    assert updated == ({"_u", "_v"} if norm == "spectral_norm" else set())


def test_weights_that_are_swapped_for_one_call_are_no_reason() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        held = {name: p.detach() * 2 for name, p in self.judge.named_parameters()}
        return self.judge(x) + torch.func.functional_call(self.judge, held, (self.first(x),))

    judge = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error", StateNotKept)
        captured = agree(Function(forward, judge=judge), (X,))
    assert len(captured.gradients) == 6


@pytest.mark.parametrize("last", ["weight", "bias"])
def test_weights_that_are_not_put_back_are_refused(last: str) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        held = dict(self.norm._parameters)
        self.norm._parameters["weight"] = held["bias"]
        y = self.norm(self.first(x))
        self.norm._parameters["weight"] = held[last]
        return y

    model = Function(forward, norm=nn.BatchNorm1d(8))
    if last == "weight":
        agree(model, (X,))
        return
    with pytest.raises(CaptureError, match="assigns a new tensor"):
        capture(model, (X,))


def test_labels_among_the_inputs_are_told_where_they_belong() -> None:
    with pytest.raises(InvalidArgument, match=r"Linear.forward\(.*too many positional.*loss="):
        pebble.optimize(nn.Linear(8, 8), (X, X), budget_gb=1)
    with pytest.raises(InvalidArgument, match=r"unexpected keyword argument 'labels'"):
        pebble.optimize(nn.Linear(8, 8), {"input": X, "labels": X}, budget_gb=1)


def test_a_write_to_a_parameter_is_refused_in_the_user_s_words() -> None:
    def clamps(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            m.first.weight.clamp_(-1, 1)  # type: ignore[union-attr,operator]
        return m.first(x)  # type: ignore[no-any-return,operator]

    with pytest.raises(CaptureError, match="Write to parameters outside of the forward"):
        capture(Function(clamps), (X,))


@pytest.mark.parametrize(("start", "factor"), [(1.0, 0.9), (3, 2)])
def test_a_number_that_the_forward_changes_and_computes_with_is_named(
    start: float, factor: float
) -> None:
    class Decays(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.temperature = nn.Linear(4, 4), start

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.temperature = self.temperature * factor
            return self.layer(x) * self.temperature

    with pytest.raises(
        CaptureError, match="'temperature'.* (before this step|computes with the count)"
    ):
        capture(Decays(), (torch.ones(3, 4),))
