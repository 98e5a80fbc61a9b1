"""A Trainer within a budget ends with the numbers of the Trainer without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument
from pebble.integrations.trainer_losses import OutsideLoss, takes_own_loss
from pebble.integrations.transformers import PebbleCallback, budgeted
from pebble.measure.allocator import trace_memory
from pebble.runtime import PlannedModule
from pebble.runtime.input_forms import InputForm
from pebble.tracing.torch_private.storages import storage_bytes

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

WORDS, ROOM = 40, 106_000
LENGTHS = (12, 9, 7, 5, 12, 3, 8)
"""Of the sentences: batches of 2 in two lengths, and a last one of 1."""
QUICK: dict[str, Any] = {"chunked_loss": False, "display": False, "time_limit": 1}


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=WORDS, n_positions=16,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)  # type: ignore[no-any-return]


def lora() -> nn.Module:
    peft = pytest.importorskip("peft")
    base = gpt2()
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], lora_dropout=0.1, fan_in_fan_out=True)
    return peft.get_peft_model(base, config)  # type: ignore[no-any-return]


def sentences() -> list[dict[str, torch.Tensor]]:
    made = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(1, WORDS, (n,), generator=made)} for n in LENGTHS]


def padded(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """To 8 or to 12 words."""
    length = 8 if all(len(s["input_ids"]) <= 8 for s in samples) else 12
    ids = torch.zeros(len(samples), length, dtype=torch.long)
    for row, sample in zip(ids, samples):
        row[: len(sample["input_ids"])] = sample["input_ids"]
    return {"input_ids": ids, "labels": ids.masked_fill(ids == 0, -100)}


def make_trainer(
    place: Path, make: Callable[[], nn.Module] = gpt2, kind: Any = None, **options: Any
) -> Any:
    given = {k: options.pop(k) for k in ("callbacks", "compute_loss_func") if k in options}
    args = transformers.TrainingArguments(
        output_dir=str(place), per_device_train_batch_size=2, num_train_epochs=1, use_cpu=True,
        learning_rate=1e-2, report_to=[], disable_tqdm=True, logging_steps=1,
        **{"save_strategy": "no"} | options,
    )  # fmt: skip
    return (kind or transformers.Trainer)(
        model=make(), args=args, train_dataset=sentences(), eval_dataset=sentences()[:3],
        data_collator=padded, **given,
    )  # fmt: skip


class Logits(transformers.Trainer):  # type: ignore[misc]
    """With a loss of its own, on outputs that the model returns beside its loss."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs)
        loss = outputs.loss + outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


def squares(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
    kept = (labels >= 0).unsqueeze(-1)
    return (outputs.logits * kept).square().mean()  # type: ignore[no-any-return]


def within(trainer: Any, room: int = ROOM, **options: Any) -> Any:
    return budgeted(trainer, budget_bytes=room, **QUICK, **options)


def state(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in trainer.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def losses(trainer: Any) -> list[Any]:
    keys = ("loss", "grad_norm", "eval_loss")
    return [entry[k] for entry in trainer.state.log_history for k in keys if k in entry]


def peaks(trainer: Any) -> Iterator[int]:
    """Bytes of every step of one more epoch, all that the loop holds counted."""
    loader, steps = trainer.get_train_dataloader(), trainer.args.gradient_accumulation_steps
    batches = iter(loader)
    while True:
        samples, items = trainer.get_batch_samples(batches, steps, trainer.args.device)
        if not samples:
            return
        trainer.model.zero_grad()
        for batch in samples:
            model = trainer.model_wrapped
            # planned by now: a step of which nothing remains
            kept = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
            trainer.training_step(model, dict(batch), items)
            for p, grad in zip(model.parameters(), kept):
                p.grad = grad
            held = [*model.parameters(), *model.buffers(), *(g for g in kept if g is not None)]
            held += [t for b in samples for t in b.values()]
            held += [t for s in trainer.optimizer.state.values() for t in s.values()]
            del grad, kept
            taken = trace_memory(partial(trainer.training_step, model, dict(batch), items)).peak
            yield storage_bytes(t for t in held if torch.is_tensor(t)) + taken


def check(
    place: Path, make: Callable[[], nn.Module] = gpt2, room: int = ROOM, **options: Any
) -> Any:
    """Both trainers, with the same seed; gives back the planned one."""
    plain, trainer = (make_trainer(place / name, make, **options) for name in ("plain", "planned"))
    model, kind = trainer.model, type(trainer.model)
    assert within(trainer, room) is trainer
    for one in (plain, trainer):
        torch.manual_seed(1)
        one.train()
    assert trainer.model is model
    assert isinstance(model, kind)
    assert losses(plain) == losses(trainer)
    assert same(state(plain), state(trainer))
    found = pebble.status(trainer.model)
    assert found.planned_calls == 4
    assert found.unplanned_calls == 0
    assert found.plans_made == 3
    return trainer


def test_a_trainer_keeps_its_budget_and_its_numbers(tmp_path: Path) -> None:
    trainer = check(tmp_path, eval_strategy="steps", eval_steps=2)
    status = pebble.status(trainer.model)
    assert status.evaluation_calls > 0
    assert 0.9 * ROOM < max(peaks(trainer)) <= ROOM
    logged = [e for e in trainer.state.log_history if "loss" in e][-1]
    assert logged["pebble_planned_calls"] == 4
    assert logged["pebble_unplanned_calls"] == 0
    assert logged["pebble_peak_gb"] <= ROOM / 1e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "options"),
    [
        (100_000, {"bf16": True}),
        (116_000, {"label_smoothing_factor": 0.1}),
        (126_000, {"gradient_accumulation_steps": 4}),
        (136_000, {"gradient_accumulation_steps": 3, "bf16": True, "label_smoothing_factor": 0.1}),
        (68_000, {"make": lora}),
        (116_000, {"compute_loss_func": squares}),
        (122_000, {"kind": Logits}),
    ],
    ids=["bf16", "smoothing", "accumulation", "all three", "adapters", "own loss", "own method"],
)
def test_every_loop_is_the_unplanned_one(
    tmp_path: Path, room: int, options: dict[str, Any]
) -> None:
    trainer = check(tmp_path, room=room, eval_strategy="epoch", **options)
    assert max(peaks(trainer)) <= room


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    saved = {"save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(tmp_path, **saved)
    whole.train()
    again = make_trainer(tmp_path, callbacks=[PebbleCallback(budget_bytes=ROOM, **QUICK)], **saved)
    assert isinstance(again.model, PlannedModule)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(state(whole), state(again))
    assert pebble.status(again.model).planned_calls == 2
    assert pebble.status(again.model).unplanned_calls == 0


def test_a_callback_plans_in_place_as_the_call_does(tmp_path: Path) -> None:
    model = gpt2()
    callback = PebbleCallback(budget_gb=1)
    trainer = make_trainer(tmp_path, lambda: model, callbacks=[callback])
    assert trainer.model is model
    assert isinstance(model, PlannedModule)
    assert trainer.callback_handler.callbacks[0] is callback
    assert type(model).__name__ == "GPT2LMHeadModel"
    trainer._set_signature_columns_if_needed()
    assert "input_ids" in trainer._signature_columns
    assert within(trainer) is trainer  # anew, with another budget
    assert sum(isinstance(c, PebbleCallback) for c in trainer.callback_handler.callbacks) == 1


def test_checkpointing_is_left_to_the_plan(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, gradient_checkpointing=True)
    trainer.model.enable_input_require_grads()
    within(trainer)
    assert not trainer.args.gradient_checkpointing
    assert not trainer.model.get_input_embeddings()._forward_hooks
    trainer.model.gradient_checkpointing_enable()
    trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in trainer.model.modules())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("_n_gpu", 2, "DataParallel"),
        ("torch_compile", True, "torch_compile"),
        ("deepspeed", {"stage": 2}, "DeepSpeed"),
        ("fsdp", ["full_shard"], "FSDP"),
        ("neftune_noise_alpha", 5.0, "NEFTune"),
    ],
)
def test_what_a_plan_cannot_stand_in_is_refused(
    tmp_path: Path, name: str, value: Any, told: str
) -> None:
    trainer = make_trainer(tmp_path)
    setattr(trainer.args, name, value)
    with pytest.raises(InvalidArgument, match=told):
        within(trainer)
    assert not isinstance(trainer.model, PlannedModule)


def test_what_the_trainer_knows_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="reads optimizer from the Trainer"):
        within(make_trainer(tmp_path), optimizer="sgd")
    with pytest.raises(InvalidArgument, match="takes a transformers.Trainer"):
        within(gpt2())


def test_another_number_of_items_is_no_other_form(tmp_path: Path) -> None:
    trainer, forms = within(make_trainer(tmp_path)), []
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: forms.append(InputForm.of(args, kwargs)), with_kwargs=True
    )
    trainer.model.eval()
    for items in (7, 8):
        trainer.compute_loss(trainer.model, padded(sentences()[:2]), num_items_in_batch=items)
    assert forms[0] == forms[1]


def test_a_loss_outside_is_run_as_the_trainer_runs_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, label_smoothing_factor=0.1)
    loss, batch = OutsideLoss(trainer), padded(sentences()[:2])
    trainer.model.eval()
    outputs = trainer.model(input_ids=batch["input_ids"])
    expected = trainer.compute_loss(trainer.model, dict(batch))
    loss.enter()
    loss.inputs = batch
    assert torch.equal(loss(outputs), expected)
    loss.leave()
    assert "compute_loss" not in vars(trainer)


def test_only_the_trainers_own_loss_is_taken_for_the_whole_of_it(tmp_path: Path) -> None:
    assert takes_own_loss(within(make_trainer(tmp_path)))
    assert not takes_own_loss(make_trainer(tmp_path, kind=Logits))
    assert not takes_own_loss(make_trainer(tmp_path, compute_loss_func=squares))
    assert not takes_own_loss(make_trainer(tmp_path, label_smoothing_factor=0.1))
    patched = make_trainer(tmp_path)
    patched.compute_loss = squares
    assert not takes_own_loss(patched)
    loss = OutsideLoss(patched)
    loss.enter()
    assert not loss.may_run
    loss.leave()
    assert patched.compute_loss is squares
