"""From the first call on, planning included, a loop holds no more than its budget."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
SHARE = 0.6
"""Of what the un-planned loop holds."""
QUICK: dict[str, Any] = {"chunked_loss": False, "display": False, "time_limit": 1, "seed": 0}
WORDS, LENGTH, ROWS = 40, 24, 8
DATA_BYTES = 8 * LENGTH * ROWS
"""Of the whole data set, which is no part of a step."""


@pytest.fixture(name="meter")
def _meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The meter of the benchmarks."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("meter").Meter
    sys.modules.pop("meter", None)


def gpt2(*, cache: bool = False) -> nn.Module:
    config = transformers.GPT2Config(
        n_layer=2, n_embd=16, n_head=2, vocab_size=WORDS, n_positions=LENGTH,
        bos_token_id=0, eos_token_id=0, use_cache=cache,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)  # type: ignore[no-any-return]


def sentences() -> list[dict[str, torch.Tensor]]:
    """Two batches of 4."""
    made = torch.Generator().manual_seed(0)
    rows = torch.randint(1, WORDS, (ROWS, LENGTH), generator=made)
    return [{"input_ids": row, "labels": row} for row in rows]


def plainly(model: nn.Module, budget: int | None) -> nn.Module:
    if budget is not None:
        model = pebble.budgeted(model, budget_bytes=budget, outputs="loss", **QUICK)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in torch.utils.data.DataLoader(sentences(), batch_size=4):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def accelerated(model: nn.Module, budget: int | None) -> nn.Module:
    accelerate = pytest.importorskip("accelerate")
    if budget is not None:
        model = pebble.budgeted(model, budget_bytes=budget, outputs="loss", **QUICK)
    accelerator = accelerate.Accelerator(cpu=True)
    made = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(sentences(), batch_size=4)
    model, optimizer, data = accelerator.prepare(model, made, loader)
    for batch in data:
        accelerator.backward(model(**batch).loss)
        optimizer.step()
        optimizer.zero_grad()
    return model


def by_trainer(model: nn.Module, budget: int | None, **options: Any) -> nn.Module:
    pytest.importorskip("accelerate")
    from pebble.integrations.transformers import budgeted

    args = transformers.TrainingArguments(
        output_dir="unused", per_device_train_batch_size=4, num_train_epochs=1, use_cpu=True,
        report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no", **options,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=args, train_dataset=sentences())
    if budget is not None:
        budgeted(trainer, budget_bytes=budget, **QUICK)
    trainer.train()
    return model


def by_smoothing_trainer(model: nn.Module, budget: int | None) -> nn.Module:
    return by_trainer(model, budget, label_smoothing_factor=0.1)


def run(
    loop: Callable[[nn.Module, int | None], nn.Module], budget: int | None, meter: Any
) -> tuple[int, nn.Module]:
    """The most that was held, and the trained model."""
    model = gpt2()
    torch.manual_seed(1)
    with meter([*model.parameters(), *model.buffers()]) as found:
        trained = loop(model, budget)
    return found.peak, trained


@pytest.mark.slow
@pytest.mark.parametrize("loop", [plainly, accelerated, by_trainer, by_smoothing_trainer])
def test_the_budget_holds_from_the_first_call_on(
    meter: Any, loop: Callable[[nn.Module, int | None], nn.Module]
) -> None:
    unplanned, _ = run(loop, None, meter)
    budget = int(SHARE * (unplanned - DATA_BYTES))
    peak, planned = run(loop, budget, meter)
    assert peak <= budget + DATA_BYTES
    status = pebble.status(planned)
    assert status.planned_calls == 2
    assert status.unplanned_calls == 0


@pytest.mark.slow
@pytest.mark.parametrize("loop", [plainly, accelerated, by_trainer, by_smoothing_trainer])
def test_the_numbers_are_those_of_the_loop_without_a_plan(
    meter: Any, loop: Callable[[nn.Module, int | None], nn.Module]
) -> None:
    unplanned, eager = run(loop, None, meter)
    _, planned = run(loop, int(SHARE * (unplanned - DATA_BYTES)), meter)
    expected = eager.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in planned.state_dict().items())


def test_a_model_with_its_cache_on_is_planned_without_it() -> None:
    """Eager's cache lays keys and values out otherwise, so that products are rounded otherwise."""

    def gradients(*, cache: bool, planned: bool) -> list[torch.Tensor]:
        model = gpt2(cache=cache)
        if planned:
            model = pebble.budgeted(model, budget_gb=1, outputs="loss", **QUICK)
        torch.manual_seed(1)
        model(**torch.utils.data.default_collate(sentences())).loss.backward()
        return [p.grad for p in model.parameters()]

    planned = gradients(cache=True, planned=True)
    assert all(map(torch.equal, planned, gradients(cache=False, planned=False)))
    for found, eager in zip(planned, gradients(cache=True, planned=False), strict=True):
        assert (found - eager).abs().max() <= 1e-5 * eager.abs().max()
