"""Plans for a card that is not at hand: what they record, say, keep in their file, and refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import CardWarning, InvalidArgument, PlanMismatch
from pebble.tracing.card_twin import CardTwin

pytestmark = [
    pytest.mark.usefixtures("seeded", "one_thread"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a card is at hand"),
]
X = torch.randn(16, 32)


def net() -> nn.Module:
    layers = [nn.Sequential(nn.Linear(32, 32), nn.RMSNorm(32), nn.GELU()) for _ in range(4)]
    return nn.Sequential(*layers)


def loss(y: torch.Tensor) -> torch.Tensor:
    return y.square().mean()


def planned(model: nn.Module, x: torch.Tensor = X, **more: object) -> pebble.Plan:
    asked = {"budget_gb": 0.1, "optimizer": "sgd", "loss": loss, "time_limit": 5.0} | more
    plan = pebble.optimize(model, x, **asked)  # type: ignore[arg-type]
    assert isinstance(plan, pebble.Plan)
    return plan


@pytest.fixture(scope="module")
def of_net() -> pebble.Plan:
    return planned(net(), card="T4")


def test_what_a_plan_records(of_net: pebble.Plan, tmp_path: Path) -> None:
    of_net.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    assert isinstance(loaded, pebble.Plan) and loaded.record == of_net.record
    record = loaded.record
    assert (record.card, record.precision, record.device) == ("t4", "fp32", "cuda:0")
    assert (record.torch_version, record.costs) == (torch.__version__, "roofline:t4")
    assert record.transformers_version is None and record.kernels == {}
    assert of_net.cap.is_reserved and of_net.memory["library workspace"] == 2 * 8_519_680
    assert "Kernels of the T4 (compute capability 7.5) in fp32: no attention." in str(loaded)
    assert "reserved by torch's caching allocator" in str(loaded)


def test_a_plan_of_another_card_is_damaged(of_net: pebble.Plan, tmp_path: Path) -> None:
    data = of_net.to_json()
    data["origin"]["card"] = "abacus"
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(pebble.PlanFormatError, match="card"):
        pebble.load_plan(tmp_path / "plan.json")


def test_the_cpu_takes_other_kernels(of_net: pebble.Plan) -> None:
    here = r"for the kernels of the T4, and this Sequential is on the cpu, .* op '_fused_rms_norm'"
    with pytest.raises(PlanMismatch, match=here):
        of_net.apply(net(), loss=loss)
    with pytest.raises(PlanMismatch, match=here):
        of_net.validate()


def test_where_the_graph_is_the_same_it_runs() -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32))
    plan = planned(model, card="a100")
    followed = plan.apply(model, loss=loss)
    loss(followed(X)).backward()
    assert pebble.status(followed).planned_calls == 1


def test_it_belongs_to_a_model_on_a_card(of_net: pebble.Plan) -> None:
    twin = CardTwin.of(net(), (X,))
    step = of_net.step_of(twin.model, twin.args, loss)
    assert step.captured.card == "t4"
    assert step.graph.fingerprint == of_net.problem.graph.fingerprint


def test_other_code_of_the_model_is_named(of_net: pebble.Plan) -> None:
    class Other(nn.Sequential):
        pass

    twin = CardTwin.of(Other(*net(), nn.Tanh()), (X,))
    made = replace(of_net.record, transformers_version="5.17.0", torch_version="2.11.0")
    other = replace(of_net, record=made, step=None)
    with pytest.raises(PlanMismatch) as told:
        other.step_of(twin.model, twin.args, loss)
    assert "The plan was made under transformers 5.17.0 and torch 2.11.0, this is torch" in str(
        told.value
    )


def test_the_card_wins_and_modules_are_refused() -> None:
    twin = CardTwin.of(net(), (X,))
    assert planned(twin.model, twin.args, card="h100").record.card == "h100"
    with pytest.raises(InvalidArgument, match="card='t4'"):
        planned(twin.model, twin.args)
    with pytest.raises(InvalidArgument, match="no card="):
        planned(net(), card="t4", level="module")
    with pytest.raises(InvalidArgument, match="choose one of 't4'"):
        planned(net(), card="abacus")


def test_bf16_below_8_is_told_of() -> None:
    model = net().to(torch.bfloat16)
    with pytest.warns(CardWarning, match=r"T4 \(compute capability 7.5\) .* Train in fp16"):
        plan = planned(model, X.to(torch.bfloat16), card="t4")
    assert plan.record.precision == "bf16"
