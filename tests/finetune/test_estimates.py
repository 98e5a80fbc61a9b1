"""The whole step's memory by kind and phase: known figures, and what training truly takes."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import pebble
from pebble.errors import InvalidArgument
from pebble.finetune.estimates import Estimate, estimate
from pebble.finetune.named_models import SHAPES, build_shape
from pebble.measure.allocator import trace_memory
from pebble.measure.dtypes import DTYPES
from pebble.measure.optimizers import OPTIMIZERS
from pebble.measure.weights import FORMATS, STATES, stored_bytes, weight_arithmetic
from pebble.runtime import build
from pebble.schedule import Schedule
from pebble.tracing import capture

# -- known figures -------------------------------------------------------------------------------


def test_seven_billion_parameters_in_mixed_precision() -> None:
    """Weights 14, gradients 14, Adam 56 GB: the arithmetic of model cards and training guides."""
    need = weight_arithmetic(7 * 10**9, weights="bf16", optimizer="adam", state_width=4)
    assert (need.weights, need.gradients, need.state) == (14 * 10**9, 14 * 10**9, 56 * 10**9)


def test_sixteen_bytes_a_parameter() -> None:
    """2 + 2 + 12 bytes (master weights, momentum, variance): ZeRO, Rajbhandari et al. 2020, 3.1."""
    masters = weight_arithmetic(7 * 10**9, weights="bf16", optimizer="adam", master_weights=True)
    assert masters.total == 16 * 7 * 10**9
    assert masters.state + masters.master_weights == 12 * 7 * 10**9
    wide = weight_arithmetic(10**9, gradient_width=4, master_weights=True)
    assert wide.total == 18 * 10**9, "with fp32 gradients: Megatron-LM's eighteen bytes"


def test_three_billion_parameters_in_bf16() -> None:
    """6 GB: two bytes a parameter."""
    assert weight_arithmetic(3 * 10**9, optimizer=None, trainable=0).total == 6 * 10**9


def test_eight_bytes_of_optimizer_a_trainable_parameter() -> None:
    """Two fp32 moments: Kingma and Ba 2015; transformers' guide counts 8 bytes for AdamW, 2 for
    its 8-bit form (Dettmers et al. 2022) and 4 for momentum."""
    for name, width in (("adamw", 8), ("adam", 8), ("momentum", 4), ("lion", 4), ("sgd", 0)):
        assert weight_arithmetic(10**6, weights="fp32", optimizer=name).state == width * 10**6
    assert weight_arithmetic(10**6, optimizer="adamw8bit").state == pytest.approx(2e6, rel=0.02)


def test_eight_billion_parameters_in_four_bits() -> None:
    """Base weights of 4 to 5 GB, 4.127 bits a weight with double quantisation: QLoRA, Dettmers et
    al. 2023, section 3 (0.5 bits of constants become 0.127)."""
    for form in ("4bit", "4bit-double"):
        assert 4e9 < stored_bytes(form, 1, 8 * 10**9) < 5e9
    assert 8 * stored_bytes("4bit-double", 1, 2**30) / 2**30 == pytest.approx(4.127, abs=1e-3)
    assert 8 * stored_bytes("4bit", 1, 2**30) / 2**30 == 4.5


def test_inputs_of_all_layers_of_a_7b_model() -> None:
    """32 layers x 2048 tokens x 4096 features x 2 bytes, about 0.5 GB; eight times that for a batch
    of eight: what checkpointing every layer keeps (Chen et al. 2016)."""
    need = weight_arithmetic(0, weights="bf16", layers=32, tokens=2048, width=4096)
    assert need.layer_inputs == 32 * 1 * 2048 * 4096 * 2
    assert need.layer_inputs / 1e9 == pytest.approx(0.5, abs=0.05)
    batch = weight_arithmetic(0, weights="bf16", layers=32, tokens=8 * 2048, width=4096)
    assert batch.layer_inputs == 8 * need.layer_inputs


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1000, 1000, bias=False, dtype=torch.bfloat16)
        self.second = nn.Linear(1000, 1000, bias=False, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)).mean(1).sum()


@pytest.fixture(scope="module")
def two_layers() -> tuple[nn.Module, torch.Tensor]:
    with FakeTensorMode():
        return TwoLayers(), torch.randn(32, 1000, dtype=torch.bfloat16)


def test_two_layers_forward(two_layers: tuple[nn.Module, torch.Tensor]) -> None:
    forward = estimate(*two_layers, optimizer=None).moment("forward")
    assert forward.kinds["parameters"] == 4_000_000
    assert forward.kinds["inputs"] + forward.kinds["activations"] == 3 * 64_000 + 64
    assert forward.total == 4_192_064


@pytest.mark.parametrize("form", ["bf16", "fp32", "fp16"])
def test_weights_and_gradients_in_their_own_dtype(form: str) -> None:
    width = torch.finfo(DTYPES[form]).bits // 8
    with FakeTensorMode():
        model = nn.Linear(1000, 1000, bias=False, dtype=DTYPES[form])
        x = torch.randn(32, 1000, dtype=DTYPES[form])
    kinds = estimate(model, x, optimizer="sgd").moment("optimizer step").kinds
    assert kinds["parameters"] == kinds["gradients"] == width * 10**6


# -- against the allocator -----------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.LayerNorm(256), nn.Linear(256, 64))


def measured(optimizer_name: str, micro_batches: int) -> tuple[Estimate, list[int]]:
    """An estimate, and for each of three steps the most that was held, parameters included."""
    model, x = network(), torch.randn(512, 64)
    captured = capture(model, (x,), loss=lambda out: out.square().mean())
    planned = build(model, captured, Schedule.keep_all(captured.graph))
    makers: dict[str, Any] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    optimizer = makers[optimizer_name](model.parameters(), lr=1e-3)

    def step() -> None:
        for _ in range(micro_batches):
            out = planned(x)
            out.square().mean().backward()
            del out
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    expected = estimate(
        model, captured=captured, optimizer=optimizer_name, accumulation_steps=micro_batches
    )
    held = sum(t.numel() * t.itemsize for t in (*model.parameters(), x))
    peaks = []
    gc.disable()  # a planned step leaves no reference cycle that holds a tensor
    try:
        for _ in range(3):
            trace = trace_memory(step)
            peaks.append(held + trace.peak)
            held += int(trace.live[-1])
    finally:
        gc.enable()
    return expected, peaks


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_takes_what_was_estimated(optimizer: str, micro_batches: int) -> None:
    expected, peaks = measured(optimizer, micro_batches)
    assert expected.workspace_measured
    first = max(m.total for m in expected.moments if m.first)
    later = max(m.total for m in expected.moments if not m.first)
    for predicted, actual in zip((first, later, later), peaks, strict=True):
        assert 0.99 * actual <= predicted <= 1.02 * actual
    assert expected.peak >= max(peaks) - 16, "loss and root gradient are scalars"


# -- what an option changes ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    small = {
        **SHAPES["llama-7b"], "num_hidden_layers": 2, "hidden_size": 256, "vocab_size": 1000,
        "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 4,
    }  # fmt: skip
    path: Path = tmp_path_factory.mktemp("shapes") / "config.json"
    path.write_text(json.dumps(small))
    return str(path)


@pytest.fixture(scope="module")
def adapted(llama: str) -> tuple[Any, Any, Any]:
    model, inputs = build_shape(llama, lora_rank=4, seq_len=64)
    return model, inputs, capture(model, inputs.args, inputs.kwargs)


def test_quantised_base(adapted: tuple[Any, Any, Any]) -> None:
    model, inputs, captured = adapted
    plain = estimate(model, inputs, captured=captured)
    packed = estimate(model, inputs, captured=captured, quantize="4bit")
    linear = [
        m.weight for n, m in model.named_modules() if type(m) is nn.Linear and "lm_head" not in n
    ]
    saved = sum(w.numel() * 2 - stored_bytes("4bit", *w.shape) for w in linear)
    before, after = plain.moment("forward").kinds, packed.moment("forward").kinds
    assert before["parameters"] - after["parameters"] == saved
    assert after["unpacked weight"] == 2 * 256 * 512
    assert before["activations"] == after["activations"]
    assert "unpacked weight" not in packed.moment("optimizer step").kinds
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert packed.moment("optimizer step").kinds["gradients"] == 2 * trained


def test_nothing_to_quantise_is_said(two_layers: tuple[nn.Module, torch.Tensor]) -> None:
    with pytest.raises(InvalidArgument, match="adapters"):
        estimate(*two_layers, quantize="4bit")


def test_state_in_fp32_and_master_weights(two_layers: tuple[nn.Module, torch.Tensor]) -> None:
    numel = 2_000_000
    own = estimate(*two_layers, optimizer="adamw").moment("forward").kinds
    wide = estimate(*two_layers, optimizer="adamw", state_dtype="fp32").moment("forward").kinds
    masters = estimate(*two_layers, optimizer="adamw", master_weights=True).moment("forward").kinds
    assert own["optimizer state"] == 2 * 2 * numel + 8
    assert wide["optimizer state"] == 2 * 4 * numel + 8
    assert masters["optimizer state"] == wide["optimizer state"]
    assert masters["master weights"] == 4 * numel
    assert "master weights" not in wide


def test_gradients_in_fp32(two_layers: tuple[nn.Module, torch.Tensor]) -> None:
    numel = 2_000_000
    step = estimate(*two_layers, gradient_dtype="fp32", accumulation_steps=4)
    assert step.moment("backward").kinds["accumulated gradients"] == 4 * numel
    assert step.moment("optimizer step").kinds["gradients"] == 4 * numel
    own = estimate(*two_layers)
    assert own.moment("optimizer step").kinds["gradients"] == 2 * numel


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("quantize", [None, "int8", "4bit", "4bit-double"])
def test_every_combination_adds_up(
    adapted: tuple[Any, Any, Any], optimizer: str, quantize: str | None
) -> None:
    model, inputs, captured = adapted
    base = estimate(model, inputs, captured=captured, optimizer=None, quantize=quantize)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    for accumulate, ddp in ((1, None), (4, None), (1, "copies"), (4, "views")):
        step = estimate(
            model, inputs, captured=captured, optimizer=optimizer, quantize=quantize,
            accumulation_steps=accumulate, ddp=ddp, state_dtype="fp32",
        )  # fmt: skip
        first = step.moment("backward", first=True)
        extra = first.total - base.moment("backward").total
        copies = 2 * trained * (bool(ddp) + (accumulate > 1 and ddp != "views"))
        released = 2 * trained if accumulate > 1 else 0
        assert copies - released <= extra <= copies
        later = step.moment("backward").total - first.total
        assert later == step.moment("forward").kinds.get("optimizer state", 0)
        expected = STATES[optimizer](4) * trained
        if optimizer not in ("adafactor", "adamw8bit", "paged_adamw8bit"):
            assert expected <= later <= expected + 4 * len(list(model.parameters()))


def test_autocast_halves_activations_and_keeps_weights() -> None:
    with FakeTensorMode():
        model, x = network(), torch.randn(512, 64)
    plain, cast = (estimate(model, x, autocast=dtype) for dtype in (None, "bf16"))
    for kind in ("parameters", "inputs"):
        assert plain.moment("forward").kinds[kind] == cast.moment("forward").kinds[kind]
    assert cast.moment("optimizer step").kinds == {
        **plain.moment("optimizer step").kinds,
        "outputs": cast.moment("optimizer step").kinds["outputs"],
    }
    held = (m.moment("backward").kinds["outputs"] for m in (plain, cast))
    assert next(held) == 2 * next(held), "the output and its gradient"


def test_buckets_and_accumulation(two_layers: tuple[nn.Module, torch.Tensor]) -> None:
    size = 4_000_000
    copies = estimate(*two_layers, ddp="copies")
    assert copies.moment("forward").kinds["DDP buckets"] == size
    step = copies.moment("optimizer step").kinds
    assert (step["gradients"], step["DDP buckets"]) == (size, size)
    views = estimate(*two_layers, ddp="views", accumulation_steps=4)
    assert "gradients" not in views.moment("optimizer step").kinds
    assert "accumulated gradients" not in views.moment("forward").kinds
    summed = estimate(*two_layers, accumulation_steps=4)
    assert summed.moment("backward").kinds["accumulated gradients"] == size
    assert "accumulated gradients" not in summed.moment("optimizer step").kinds


def test_the_first_step_has_no_state_before_it_steps(
    two_layers: tuple[nn.Module, torch.Tensor],
) -> None:
    step = estimate(*two_layers, optimizer="adamw")
    assert "optimizer state" not in step.moment("backward", first=True).kinds
    later = step.moment("backward").kinds
    assert (
        step.moment("backward").total - step.moment("backward", first=True).total
        == (later["optimizer state"])
    )
    assert step.peak == step.peak_moment.total == max(m.total for m in step.moments)


def test_paged_state_is_in_the_host(two_layers: tuple[nn.Module, torch.Tensor]) -> None:
    step = estimate(*two_layers, optimizer="paged_adamw8bit")
    assert step.host > 4_000_000
    assert step.moment("forward").kinds["optimizer state"] < 10_000
    assert "host" in str(step)


def test_the_table_has_every_kind_and_the_notes(
    two_layers: tuple[nn.Module, torch.Tensor],
) -> None:
    text = str(estimate(*two_layers, overhead={"CUDA context": 5 * 10**8}))
    for words in ("parameters", "optimizer state", "backward (first)", "total", "not measured"):
        assert words in text
    assert "CUDA context 500.00 MB" in text


def test_formats_and_states_are_known_by_name() -> None:
    with pytest.raises(InvalidArgument, match=", ".join(FORMATS)):
        stored_bytes("fp3", 2, 2)
    with pytest.raises(InvalidArgument, match=", ".join(STATES)):
        weight_arithmetic(10, optimizer="newton")
    with pytest.raises(InvalidArgument, match="trainable"):
        weight_arithmetic(10, weights="4bit")


@pytest.mark.parametrize(
    "options",
    [{"ddp": "ring"}, {"accumulate": 0}, {"state_dtype": "fp12"}, {"quantize": "2bit"}],
)
def test_wrong_options_are_said(adapted: tuple[Any, Any, Any], options: dict[str, Any]) -> None:
    model, inputs, captured = adapted
    with pytest.raises(InvalidArgument):
        estimate(model, inputs, captured=captured, **options)


def test_an_input_given_twice_counts_once_as_in_a_plan() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(50, 16), nn.Linear(16, 50)

        def forward(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(self.head(self.embed(ids)), labels)

    ids = torch.randint(0, 50, (128,))
    twice = {"ids": ids, "labels": ids}
    plan = pebble.optimize(Tagger(), twice, budget_gb=1, solver="keep_all")
    captured = capture(Tagger(), (), twice)
    assert estimate(Tagger(), twice).peak == plan.baseline_peak_bytes
    assert estimate(Tagger(), captured=captured).peak == plan.baseline_peak_bytes
