"""Python values that a forward has read are looked at again at every planned call."""

from __future__ import annotations

import copy
import math
import pickle
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pebble.errors import CaptureError, PlanMismatch
from pebble.runtime import build
from pebble.schedule import Schedule
from pebble.tracing import capture

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
SCALE = 3.0
SHIFT = torch.ones(6)


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh()


class Reader(nn.Module):
    """Reads a value of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.inner = nn.Linear(6, 6), Inner()
        self.conv = nn.Conv1d(1, 1, 1, stride=(1,))
        self.tower = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.temperature, self.flag, self.how = 2.0, True, "sum"
        self.table: dict[str, float] = {"a": 1.5}
        self.rows = [1, 2]
        self.scalar, self.array = np.float32(2.0), np.ones(6, dtype=np.float32)
        self.plain, self.listed = torch.ones(6), [torch.ones(6)]
        self.act = torch.sin

    def helper(self, x: torch.Tensor, by: float = 2.0) -> torch.Tensor:
        return x * by

    def forward(self, x: torch.Tensor, power: float = 1.0) -> torch.Tensor:
        y = self.tower(self.lin(x)) / self.temperature * self.table["a"] * self.rows[1]
        y = self.helper(self.inner(self.act(y))) * SCALE + SHIFT
        y = y * self.plain * self.listed[0] * self.scalar + torch.as_tensor(self.array)
        y = self.conv(y[:, None, :]).squeeze(1) * power
        return (y if self.flag else -y).sum() if self.how == "sum" else y.mean()


def planned(model: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    captured = capture(model, inputs)
    return build(model, captured, Schedule.keep_all(captured.graph))


@pytest.fixture(scope="module")
def reader() -> tuple[nn.Module, Any]:
    model = Reader()
    return model, capture(model, (X,))


def at_reader(
    reader: tuple[nn.Module, Any], change: Callable[[Any], Any]
) -> tuple[nn.Module, nn.Module]:
    """A planned copy and an eager copy, changed alike."""
    model, captured = reader
    module = copy.deepcopy(build(model, captured, Schedule.keep_all(captured.graph)))
    eager = copy.deepcopy(model)
    assert torch.equal(module(X), eager(X))
    change(module)
    change(eager)
    return module, eager


def put(path: str, value: Any) -> Callable[[Any], None]:
    """Set an attribute or an entry."""

    def change(model: Any) -> None:
        owner, _, key = path.rpartition(".")
        for part in filter(None, owner.split(".")):
            model = getattr(model, part)
        if "[" in key:
            store, entry = key.rstrip("]").split("[")
            getattr(model, store)[int(entry) if entry.isdigit() else entry] = value
        else:
            setattr(model, key, value)

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (put("temperature", 0.5), "'temperature' of the model was 2.0 at planning, but is 0.5"),
        (put("flag", False), "'flag' of the model was True at planning, but is False"),
        (put("how", "mean"), "'how' of the model was 'sum'"),
        (put("table[a]", 9.0), r"table\['a'\].* was 1.5"),
        (put("rows[1]", 7), r"rows\[1\].* was 2"),
        (put("conv.stride", (2,)), r"'stride' of 'conv' was \(1,\) at planning, but is \(2,\)"),
        (lambda m: m.tower.append(nn.ReLU()), "had the entries"),
        (put("act", torch.cos), "'act' of the model"),
        (put("inner.forward", lambda x: x), "forward of 'inner' was replaced"),
        (put("helper", lambda x: x), "no attribute 'helper'"),
        (put("plain", torch.ones(1)), "'plain' of the model was planned with shape"),
        (put("plain", torch.ones(6, requires_grad=True)), "requires_grad=False"),
        (put("plain", None), "'plain' of the model"),
        (put("listed[0]", torch.ones(6).double()), r"listed\[0\].*float32"),
        (lambda m: m.lin.requires_grad_(False), "requires_grad=True"),
        (lambda m: m.inner.register_forward_hook(lambda *_: None), "has a hook"),
    ],
)
def test_a_value_that_was_changed_is_named(
    reader: tuple[nn.Module, Any], change: Callable[[Any], Any], match: str
) -> None:
    module, _ = at_reader(reader, change)
    with pytest.raises(PlanMismatch, match=match):
        module(X)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("plain", torch.arange(6.0)),
        ("listed[0]", torch.arange(6.0)),
        ("scalar", np.float32(0.5)),
        ("array", np.arange(6, dtype=np.float32)),
    ],
)
def test_a_tensor_that_is_no_buffer_is_looked_up(
    reader: tuple[nn.Module, Any], path: str, value: Any
) -> None:
    module, eager = at_reader(reader, put(path, value))
    module(X).backward()
    eager(X).backward()
    for mine, theirs in zip(module.parameters(), eager.parameters()):
        assert torch.allclose(mine.grad, theirs.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "match"), [("SCALE", 5.0, "the global 'SCALE'|The global 'SCALE'")]
)
def test_a_global_number_is_named(
    reader: tuple[nn.Module, Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Any,
    match: str,
) -> None:
    module, _ = at_reader(reader, lambda _: None)
    monkeypatch.setitem(globals(), name, value)
    with pytest.raises(PlanMismatch, match=match):
        module(X)


def test_a_global_tensor_is_looked_up(
    reader: tuple[nn.Module, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, eager = at_reader(reader, lambda _: None)
    monkeypatch.setitem(globals(), "SHIFT", torch.arange(6.0))
    assert torch.allclose(module(X), eager(X))


@pytest.mark.parametrize(
    ("kind", "name"), [(Reader, "helper"), (Inner, "forward"), (Reader, "forward")]
)
def test_a_function_of_a_class_that_was_replaced_is_named(
    reader: tuple[nn.Module, Any], monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> None:
    module, _ = at_reader(reader, lambda _: None)
    monkeypatch.setattr(kind, name, lambda self, x: x.sum())
    with pytest.raises(PlanMismatch, match="was replaced"):
        module(X)


@pytest.mark.parametrize("function", [Reader.helper, Reader.forward])
def test_a_default_argument_is_named(
    reader: tuple[nn.Module, Any], monkeypatch: pytest.MonkeyPatch, function: types.FunctionType
) -> None:
    module, _ = at_reader(reader, lambda _: None)
    monkeypatch.setattr(function, "__defaults__", (9.0,))
    with pytest.raises(PlanMismatch, match="default"):
        module(X)


def test_a_number_that_the_forward_closes_over_is_named() -> None:
    factor = 2.0

    class Closing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lin(x).sum() * factor

    module = planned(Closing(), X)
    module(X)
    factor = 3.0
    with pytest.raises(PlanMismatch, match="'factor', which the forward closes over"):
        module(X)


# -- what the forward sets ---------------------------------------------------------------------


class Counting(nn.Module):
    def __init__(self, branches: bool) -> None:
        super().__init__()
        self.lin, self.calls, self.branches = nn.Linear(6, 6), 0, branches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = self.lin(x)
        return y.tanh().sum() if self.branches and self.calls > 2 else y.sum()


def test_a_counter_counts() -> None:
    module = planned(Counting(branches=False), X)
    for _ in range(4):
        module(X)
    assert module.calls == 4


def test_a_counter_that_chooses_a_branch_is_told_when_it_does() -> None:
    module = planned(Counting(branches=True), X)
    module(X)
    module(X)
    with pytest.raises(PlanMismatch, match="'calls' of the model chose a branch"):
        module(X)


def test_a_counter_that_is_computed_with_is_refused() -> None:
    class Scaled(Counting):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.lin(x).sum() * self.calls

    with pytest.raises(CaptureError, match="counts in 'calls'"):
        capture(Scaled(branches=False), (X,))


class Stashing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(6, 4), nn.Linear(4, 2)
        self.balance: Any = None
        self.kept: Any = ()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = self.gate(x).softmax(-1)
        self.balance = share.mean(0).square().sum()
        self.kept = (share.detach(), 3)
        return self.out(share)


@pytest.mark.parametrize("form", ["planned", "copied", "pickled"])
def test_a_tensor_that_the_forward_stashes_trains(form: str) -> None:
    model = Stashing()
    eager = copy.deepcopy(model)
    module = planned(model, X)
    if form == "copied":
        module = copy.deepcopy(module)
    if form == "pickled":
        module = pickle.loads(pickle.dumps(module))
    for each in (module, eager):
        for _ in range(2):
            each.zero_grad()
            (each(X).sum() + each.balance).backward()
    for mine, theirs in zip(module.parameters(), eager.parameters()):
        assert torch.allclose(mine.grad, theirs.grad)  # type: ignore[arg-type]
    assert torch.allclose(module.kept[0], eager.kept[0])
    assert module.kept[1] == 3


def test_a_flag_that_the_forward_sets_may_be_either() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.ready, self.state = nn.Linear(6, 6), False, math.inf

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.ready:
                self.ready = True
            return self.lin(x).sum()

    module = planned(Lazy(), X)
    module(X)
    assert module.ready is True
    module(X)


# -- unchanged loops -----------------------------------------------------------------------------


def test_an_unchanged_loop_is_never_stopped() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.1), nn.Linear(6, 2))
    module = planned(model, X)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(2):
        module(X).sum().backward()
        optimizer.step()
        module.eval()
        with torch.no_grad():
            module(X)
        module.train()
        module.load_state_dict(model.state_dict())
        for p in module.parameters():
            p.data.mul_(0.5)
        module(X).sum().backward()
    again = pickle.loads(pickle.dumps(module))
    for each in (copy.deepcopy(module), again):
        each(X)
        each(X)
