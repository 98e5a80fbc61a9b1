"""Head and loss in chunks: same gradients up to rounding, the predicted bytes, clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pebble
from pebble.errors import InvalidArgument, PlanMismatch
from pebble.finetune.lora import add_adapters
from pebble.referee import simulate
from pebble.runtime import build
from pebble.schedule import Schedule
from pebble.tracing import Captured, capture
from pebble.tracing.chunked_loss import chunk_loss, suggest_chunks
from pebble.tracing.loss_region import Exit, find_region

transformers = pytest.importorskip("transformers")

CLASSES, WIDTH = 101, 16
IDS = torch.randint(0, CLASSES, (3, 12), generator=torch.Generator().manual_seed(0))
PADDED = IDS.clone()
PADDED[1, 7:] = -100
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": CLASSES,
}


def causal(kind: str, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    if kind == "GPT2":
        config = transformers.GPT2Config(
            n_embd=32, n_layer=1, n_head=2, vocab_size=CLASSES, n_positions=16,
            resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).train()
    config = getattr(transformers, f"{kind}Config")(**SIZES, **more)
    return getattr(transformers, f"{kind}ForCausalLM")(config).train()


class Head(nn.Module):
    """Hidden states from an embedding, a head, and a loss of the test's own."""

    def __init__(self, loss: Callable[..., Any], *, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(CLASSES, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES, bias=bias)
        self.weighting = torch.rand(CLASSES)
        self.register_buffer("class_weight", torch.rand(CLASSES) + 0.5)
        self.loss = loss

    def forward(self, ids: torch.Tensor, labels: torch.Tensor) -> Any:
        return self.loss(self, torch.tanh(self.mix(self.table(ids))), labels)


def run(module: nn.Module, *args: Any, factor: float = 3.0, **kwargs: Any) -> Any:
    for tensor in module.parameters():
        tensor.grad = None
    output = module(*args, **kwargs)
    loss = output.loss if hasattr(output, "loss") else output
    (factor * loss).backward()
    return output, [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def compare(model: nn.Module, chunks: int, *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Largest difference of a gradient, relative to its largest entry; output of the chunked."""
    captured = capture(model, args, kwargs)
    chunked = chunk_loss(captured, chunks)
    steps = [build(model, c, Schedule.keep_all(c.graph)) for c in (captured, chunked)]
    (_, expected), (output, found) = (run(step, *args, **kwargs) for step in steps)
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.dtype is b.dtype
            worst = max(worst, float((a - b).abs().max() / a.abs().max().clamp_min(1e-30)))
    return worst, output


@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Qwen2", "Gemma2", "Phi", "Cohere"])
@pytest.mark.parametrize("chunks", [2, 5])
def test_causal_models_keep_their_gradients(kind: str, chunks: int) -> None:
    worst, output = compare(causal(kind), chunks, input_ids=IDS, labels=PADDED)
    assert 0 <= worst < 1e-5
    assert output.logits is None


@pytest.mark.parametrize("dtype, allowed", [(torch.float64, 1e-5), (torch.bfloat16, 5e-2)])
def test_other_dtypes(dtype: torch.dtype, allowed: float) -> None:
    model = causal("Llama", tie_word_embeddings=True).to(dtype)
    assert compare(model, 4, input_ids=IDS, labels=PADDED)[0] < allowed


def test_a_frozen_head_gets_no_gradient() -> None:
    model = causal("Llama")
    add_adapters(model, 4, ("q_proj",))
    region = find_region(capture(model, (), {"input_ids": IDS, "labels": IDS}))
    assert set(region.exits.values()) == {Exit.ROWS}
    assert compare(model, 3, input_ids=IDS, labels=IDS)[0] < 1e-5


def shifted(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = self.head(x)[:, :-1].reshape(-1, CLASSES)
    return F.cross_entropy(logits.float(), labels[:, 1:].reshape(-1))


def summed(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = self.head(x).flatten(0, -2)
    total = F.cross_entropy(logits, labels.view(-1), reduction="sum")
    return total / 7 + self.mix.weight.square().sum()


def weighted(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = 5 * torch.tanh(self.head(x) / 5)
    return F.cross_entropy(logits.view(-1, CLASSES), labels.view(-1), weight=self.class_weight)


def turned(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy((x @ self.head.weight.t().contiguous()).view(-1, CLASSES),
                           labels.view(-1))  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", [shifted, summed, weighted, turned])
def test_losses_of_ones_own(loss: Callable[..., Any], bias: bool) -> None:
    assert compare(Head(loss, bias=bias), 4, IDS, PADDED)[0] < 1e-5


def smoothed(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = self.head(x).view(-1, CLASSES)
    return F.cross_entropy(logits, labels.view(-1), label_smoothing=0.1)


def also_read(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = self.head(x).view(-1, CLASSES)
    return F.cross_entropy(logits, labels.view(-1)) + logits.logsumexp(-1).square().mean()


def no_head(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(x, torch.zeros_like(x))


def per_row(self: Head, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = self.head(x).view(-1, CLASSES)
    return F.cross_entropy(logits, labels.view(-1), reduction="none").square().sum()


@pytest.mark.parametrize(
    "loss, reason",
    [(smoothed, "also reads"), (also_read, "also reads"), (no_head, "no cross entropy"),
     (per_row, "one number")],
)  # fmt: skip
def test_what_cannot_be_split_says_why(loss: Callable[..., Any], reason: str) -> None:
    captured = capture(Head(loss), (IDS, IDS))
    with pytest.raises(InvalidArgument, match=f"{reason}.*chunked_loss=False"):
        chunk_loss(captured, 2)


def test_a_loss_outside_of_the_model_needs_the_logits() -> None:
    model = causal("Llama")

    def loss(output: Any) -> torch.Tensor:
        return F.cross_entropy(output.logits.view(-1, CLASSES), IDS.view(-1))

    captured = capture(model, (), {"input_ids": IDS}, loss=loss)
    with pytest.raises(InvalidArgument, match="let the model do it"):
        chunk_loss(captured, 2)


@pytest.mark.parametrize("chunks", [0, 1, True, 2.0, 37])
def test_a_senseless_number_of_chunks(chunks: Any) -> None:
    captured = capture(Head(summed), (IDS, IDS))
    with pytest.raises(InvalidArgument, match="chunked_loss is"):
        chunk_loss(captured, chunks)


# -- through the pipeline ------------------------------------------------------------------------


class Language(Head):
    """Many classes over a narrow width: the logits are nearly everything."""

    classes = 5 * CLASSES

    def __init__(self) -> None:
        super().__init__(summed)
        self.head = nn.Linear(WIDTH, self.classes, bias=False)


LONG = torch.randint(0, CLASSES, (8, 256), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def unlimited() -> pebble.Plan:
    return pebble.optimize(
        Language(), (LONG, LONG), budget_gb=1, optimizer="sgd", solver="keep_all"
    )


def test_auto_leaves_a_loss_that_fits_alone(unlimited: pebble.Plan) -> None:
    assert unlimited.chunks == 0
    assert unlimited.unchunked is None
    assert "chunks" not in str(unlimited)


def test_auto_splits_below_the_floor_and_says_so(unlimited: pebble.Plan) -> None:
    floor = unlimited.unplanned.floor_bytes
    model = Language()
    plan = pebble.optimize(
        model, (LONG, LONG), budget_bytes=int(0.6 * floor), optimizer="sgd", time_limit=5
    )
    assert plan.chunks >= 2
    assert plan.unchunked is not None
    assert plan.peak_bytes <= plan.budget_bytes < plan.unchunked.floor_bytes == floor
    assert plan.baseline_peak_bytes == unlimited.baseline_peak_bytes
    assert plan.overhead == pytest.approx(plan.cost / unlimited.cost - 1)
    assert f"in {plan.chunks} chunks of tokens" in str(plan)
    report = plan.validate()
    assert report.exact
    assert report.ok
    assert report.chunks_difference is not None
    assert report.chunks_difference < report.tolerance == 1e-5
    assert "loss in chunks" in str(report)
    assert not replace(report, chunks_difference=1e-3).ok
    with pytest.raises(pebble.InfeasibleBudget, match="chunked_loss='auto'"):
        pebble.optimize(
            model, (LONG, LONG), budget_bytes=int(0.6 * floor), optimizer="sgd",
            chunked_loss=False, time_limit=2,
        )  # fmt: skip


@pytest.mark.slow
def test_a_chunked_plan_travels_in_a_file(tmp_path: Any) -> None:
    model = Language()
    plan = pebble.optimize(
        model, (LONG, LONG), budget_gb=1, optimizer=None, solver="keep_all", chunked_loss=4
    )
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    assert (loaded.chunks, loaded.overhead, loaded.unchunked) == (
        4, plan.overhead, plan.unchunked
    )  # fmt: skip
    expected = run(plan.apply(model), LONG, LONG)[1]
    found = run(loaded.apply(model), LONG, LONG)[1]
    assert all(torch.equal(a, b) for a, b in zip(expected, found))
    with pytest.raises((PlanMismatch, InvalidArgument)):
        loaded.apply(Head(no_head))


def test_more_chunks_need_less_and_cost_little() -> None:
    captured = capture(Language(), (LONG, LONG))
    sizes = [simulate(c.graph, Schedule.keep_all(c.graph)).peak for c in in_chunks(captured)]
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]


def in_chunks(captured: Captured) -> list[Captured]:
    return [captured, chunk_loss(captured, 2), chunk_loss(captured, 8)]


def test_the_number_of_chunks_follows_the_room() -> None:
    captured = capture(Language(), (LONG, LONG))
    whole = LONG.numel() * Language.classes * 4
    assert suggest_chunks(captured, 100 * whole) == 2
    assert suggest_chunks(captured, 6 * whole) == 4
    assert 32 <= suggest_chunks(captured, whole // 8) <= 256


@pytest.mark.parametrize("wrong", ["always", True, 1, -2, 2.5, None])
def test_options_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="chunked_loss is"):
        pebble.optimize(nn.Linear(2, 2), torch.ones(1, 2), budget_gb=1, chunked_loss=wrong)
