"""TRL's trainers within a budget end with the numbers of the trainers without one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument
from pebble.integrations.transformers import PebbleCallback, budgeted
from pebble.integrations.trl_losses import BackboneLoss, backbone_of
from pebble.measure.allocator import trace_memory
from pebble.runtime import PlannedModule
from pebble.runtime.follower import follower_of
from pebble.runtime.planned_module import plan_in_place
from pebble.tracing.torch_private.storages import storage_bytes

transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")
trl = pytest.importorskip("trl", minversion="1.16")
datasets = pytest.importorskip("datasets")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = [
    pytest.mark.usefixtures("one_thread", "seeded", "quiet"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

WORDS = 61
LENGTHS = (12, 9, 14, 10, 12, 16, 11)
"""Of the sentences, all padded to 16 words: batches of 2, and a last one of 1."""
QUICK: dict[str, Any] = {"chunked_loss": False, "display": False, "time_limit": 1}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """In small tiles, or the head of a small model takes more than the rest of it."""
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 64)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # its precision stays
    datasets.disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)


def sizes(**more: Any) -> dict[str, Any]:
    return {"vocab_size": WORDS + 3, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0} | more


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    own = sizes(n_layer=1, n_embd=16, n_head=2, n_positions=64)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**own))  # type: ignore[no-any-return]


def llama() -> nn.Module:
    torch.manual_seed(0)
    own = sizes(
        num_hidden_layers=1, hidden_size=16, intermediate_size=32, num_attention_heads=2,
        num_key_value_heads=2, attention_dropout=0.1,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**own))  # type: ignore[no-any-return]


def lora() -> Any:
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.1)


def tokenizer() -> Any:
    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(WORDS))]
    model = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def said(length: int, made: torch.Generator) -> str:
    return " ".join(f"w{int(i)}" for i in torch.randint(0, WORDS, (length,), generator=made))


def sentences() -> Any:
    made = torch.Generator().manual_seed(0)
    return datasets.Dataset.from_list([{"text": said(n - 1, made)} for n in LENGTHS])


def pairs() -> Any:
    made = torch.Generator().manual_seed(0)
    fields = (("prompt", 4), ("chosen", 8), ("rejected", 6))
    rows = [{name: said(n, made) + " " for name, n in fields} for _ in LENGTHS[:3]]
    return datasets.Dataset.from_list(rows)


def settings(place: Path, kind: Any, **options: Any) -> Any:
    given: dict[str, Any] = {
        "per_device_train_batch_size": 2, "num_train_epochs": 2, "use_cpu": True, "bf16": False,
        "learning_rate": 1e-2, "report_to": [], "disable_tqdm": True, "logging_steps": 1,
        "save_strategy": "no", "pad_to_multiple_of": 16, "max_length": 16,
    }  # fmt: skip
    return kind(output_dir=str(place), **given | options)


def supervised(place: Path, make: Callable[[], nn.Module] = gpt2, **options: Any) -> Any:
    given = {k: options.pop(k) for k in ("callbacks", "peft_config") if k in options}
    return trl.SFTTrainer(
        model=make(), args=settings(place, trl.SFTConfig, **options), train_dataset=sentences(),
        processing_class=tokenizer(), **given,
    )  # fmt: skip


def preferred(place: Path, make: Callable[[], nn.Module] = gpt2, **options: Any) -> Any:
    given = {k: options.pop(k) for k in ("callbacks", "peft_config") if k in options}
    return trl.DPOTrainer(
        model=make(), ref_model=None if "peft_config" in given else make(),
        args=settings(place, trl.DPOConfig, **options), train_dataset=pairs(),
        processing_class=tokenizer(), **given,
    )  # fmt: skip


class Weighed:
    """Bytes of every training step after the first epoch, in which plans are made."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.own = trainer, trainer.training_step
        self.peaks: list[int] = []
        trainer.training_step = self.run

    def run(self, *args: Any, **kwargs: Any) -> Any:
        trainer = self.trainer
        if trainer.state.epoch < 1:
            return self.own(*args, **kwargs)
        models = [trainer.model, *filter(None, [getattr(trainer, "ref_model", None)])]
        held = [t for m in models for t in (*m.parameters(), *m.buffers())]
        held += [p.grad for p in trainer.model.parameters() if p.grad is not None]
        held += [t for s in trainer.optimizer.state.values() for t in s.values()]
        held += args[1].values()
        before = storage_bytes(t for t in held if torch.is_tensor(t))
        del held
        traced = trace_memory(partial(self.own, *args, **kwargs))
        self.peaks.append(before + traced.peak)
        return traced.result


def told(trainer: Any) -> list[dict[str, Any]]:
    own = ("pebble", "train_")
    log = trainer.state.log_history
    return [{k: v for k, v in entry.items() if not k.startswith(own)} for entry in log]


def check(
    place: Path, build: Callable[..., Any], room: int = 10**9, tight: float = 0.9, **options: Any
) -> Any:
    """Both trainers, with the same seed; gives back the planned one."""
    plain, trainer = build(place / "plain", **options), build(place / "planned", **options)
    model, kind = trainer.model, type(trainer.model)
    assert budgeted(trainer, budget_bytes=room, **QUICK) is trainer
    weighed = Weighed(trainer)
    for one in (plain, trainer):
        torch.manual_seed(1)
        one.train()
    assert not torch.is_autocast_enabled("cpu")
    assert trainer.model is model
    assert type(model) is kind
    assert told(plain) == told(trainer)
    first, second = plain.model.state_dict(), model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert tight * room <= max(weighed.peaks) <= room
    status = pebble.status(model)
    assert status.planned_calls == trainer.state.global_step * (
        options.get("gradient_accumulation_steps", 1)
    )
    assert status.unplanned_calls == 0
    return trainer


def test_supervised_tuning_keeps_its_budget_and_its_numbers(tmp_path: Path) -> None:
    trainer = check(tmp_path, supervised, room=160_000)
    assert pebble.status(trainer.model).plans_made == 2
    assert not isinstance(trainer.model, PlannedModule)
    assert isinstance(trainer.model.transformer, PlannedModule)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "options"),
    [
        (150_000, {"make": llama, "packing": True, "tight": 0.35}),
        (96_000, {"make": llama, "peft_config": lora}),
        (150_000, {"bf16": True}),
        (180_000, {"gradient_accumulation_steps": 2}),
        (146_000, {"label_smoothing_factor": 0.1}),
    ],
    ids=["packing", "adapters", "bf16", "accumulation", "smoothing"],
)
def test_every_way_of_supervised_tuning(tmp_path: Path, room: int, options: dict[str, Any]) -> None:
    # the head of packed rows was predicted at twice what it takes: within the budget, not tight
    check(tmp_path, partial(made, supervised), room, **{"tight": 0.85} | options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "options", "beside"),
    [(264_000, {}, 0), (167_000, {"make": llama, "peft_config": lora}, 4)],
    ids=["a model of reference", "adapters"],
)
def test_a_reference_pass_is_counted_and_not_planned(
    tmp_path: Path, room: int, options: dict[str, Any], beside: int
) -> None:
    trainer = check(tmp_path, partial(made, preferred), room, tight=0.85, **options)
    assert pebble.status(trainer.model).evaluation_calls == beside


def made(kind: Callable[..., Any], place: Path, **options: Any) -> Any:
    """A trainer with adapters of its own."""
    if "peft_config" in options:
        options["peft_config"] = options["peft_config"]()
    return kind(place, **options)


def test_a_callback_waits_for_the_head(tmp_path: Path) -> None:
    callback = PebbleCallback(budget_gb=1)
    trainer = supervised(tmp_path, callbacks=[callback])
    assert callback.loop is None  # it is called before TRL has put its head on the model
    callback.begin(trainer)  # as when training begins
    assert isinstance(trainer.model.transformer, PlannedModule)
    assert not trainer.args.gradient_checkpointing
    assert trainer.model.transformer.wte.weight._backward_hooks  # tied: autograd adds it up
    callback.leave()
    assert not isinstance(trainer.model.transformer, PlannedModule)
    assert not trainer.model.transformer.wte.weight._backward_hooks
    assert "compute_loss" not in vars(trainer)


def test_measuring_a_loss_leaves_no_trace(tmp_path: Path) -> None:
    trainer = supervised(tmp_path)
    backbone = backbone_of(trainer.model)
    assert backbone is trainer.model.transformer
    wrap_in_place(backbone)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    expected = trainer.compute_loss(trainer.model, dict(batch))
    before = {name: list(values) for name, values in trainer._metrics["eval"].items()}
    loss = BackboneLoss(trainer, backbone)
    loss.enter()
    loss.inputs = dict(batch)
    given = {k: v for k, v in batch.items() if k != "labels"}
    outputs = backbone(**given)
    outputs.last_hidden_state = outputs.last_hidden_state.detach().requires_grad_()
    found = loss(outputs)
    assert torch.equal(found, expected)
    found.backward()
    assert trainer.model.lm_head.weight.grad is None
    assert trainer._metrics["eval"] == before
    assert "forward" not in vars(backbone)
    loss.leave()


def wrap_in_place(model: nn.Module) -> None:
    plan_in_place(model, follower_of(pebble.budgeted(model, budget_gb=1)))


def test_offloading_is_refused(tmp_path: Path) -> None:
    trainer = supervised(tmp_path)
    trainer.args.activation_offloading = True
    with pytest.raises(InvalidArgument, match="activation_offloading"):
        budgeted(trainer, budget_gb=1)


def test_a_model_without_a_fused_head_has_no_backbone() -> None:
    assert backbone_of(gpt2()) is None
