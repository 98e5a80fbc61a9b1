"""The loops of the integrations benchmark: each trains one small model, with a plan or without.

A loop is made by a function of this module, ready to train for three epochs. `LINES` are what a
user adds to it, and they are run from there.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from meter import Meter
from torch import nn

import pebble
from pebble.measure.allocator import trace_memory
from pebble.tracing.torch_private.storages import storage_bytes

WORDS, LENGTH, ROWS, SIZE, EPOCHS = 256, 64, 9, 4, 3
"""Sentences of varying length, padded to one: two batches of 4 and a last one of 1."""


@dataclass
class Watch:
    """Sees every training step: bytes after each op in the first epoch, then all, then seconds."""

    epoch: Callable[[], int]
    held: Callable[[], list[Any]]
    peaks: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    first: list[int] = field(default_factory=list)

    def step(self, run: Callable[[], Any]) -> Any:
        epoch = self.epoch()
        if epoch == 0:
            with Meter(t for t in self.held() if torch.is_tensor(t)) as meter:
                found = run()
            self.first.append(meter.peak)
            return found
        if epoch == 1:
            before = storage_bytes(t for t in self.held() if torch.is_tensor(t))
            traced = trace_memory(run)
            self.peaks.append(before + traced.peak)
            return traced.result
        began = time.perf_counter()
        found = run()
        if epoch > 1:
            self.seconds.append(time.perf_counter() - began)
        return found


@dataclass
class Loop:
    """A loop that is ready to train.

    Attributes
    ----------
    model : nn.Module
        That is trained.
    train : callable
    watch : Watch
    names : mapping
        What the user's lines may name.
    checkpoint : callable
        Switches the framework's own checkpointing on.
    status : callable or None
        Where `pebble.status` of the model does not tell.
    """

    model: nn.Module
    train: Callable[[], Any]
    watch: Watch
    names: dict[str, Any]
    checkpoint: Callable[[], Any]
    status: Callable[[], Any] | None = None


LINES: dict[str, str] = {}
LOOPS: dict[str, Callable[..., Loop]] = {}


def loop(lines: str) -> Callable[[Any], Any]:
    """Register a loop under its function's name, with the lines that a user adds."""

    def register(make: Any) -> Any:
        LINES[make.__name__], LOOPS[make.__name__] = lines, make
        return make

    return register


# -- models and data -------------------------------------------------------------------------------


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=4, n_embd=64, n_head=4, vocab_size=WORDS, n_positions=2 * LENGTH,
        bos_token_id=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=4, hidden_size=64, intermediate_size=128, num_attention_heads=4,
        num_key_value_heads=4, vocab_size=WORDS, bos_token_id=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


MODELS = {"gpt2": gpt2, "llama": llama}


def sentences() -> list[dict[str, torch.Tensor]]:
    made = torch.Generator().manual_seed(0)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (ROWS,), generator=made).tolist()
    return [{"input_ids": torch.randint(3, WORDS, (n,), generator=made)} for n in lengths]


def padded(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    ids = torch.zeros(len(samples), LENGTH, dtype=torch.long)
    for row, sample in zip(ids, samples):
        row[: len(sample["input_ids"])] = sample["input_ids"]
    return {"input_ids": ids, "labels": ids.masked_fill(ids == 0, -100)}


def loader() -> Any:
    return torch.utils.data.DataLoader(sentences(), batch_size=SIZE, collate_fn=padded)


def tensors_of(models: list[nn.Module], optimizer: Any, batch: Any) -> list[Any]:
    """All that is there before a step."""
    held: list[Any] = [t for m in models for t in (*m.parameters(), *m.buffers())]
    held += [p.grad for m in models for p in m.parameters() if p.grad is not None]
    held += [t for s in optimizer.state.values() for t in s.values()]
    return held + list(batch.values())


# -- Hugging Face ----------------------------------------------------------------------------------

BUDGETED = "budgeted(trainer, budget_bytes=budget, **options)"


def settings(kind: Any, **options: Any) -> Any:
    given: dict[str, Any] = {
        "per_device_train_batch_size": SIZE, "num_train_epochs": EPOCHS, "use_cpu": True,
        "learning_rate": 1e-3, "report_to": [], "disable_tqdm": True, "save_strategy": "no",
        "logging_strategy": "no", "bf16": False, "gradient_checkpointing": False,
    }  # fmt: skip
    return kind(output_dir=tempfile.mkdtemp(), **given | options)


def of_trainer(trainer: Any) -> Loop:
    """The loop of a transformers Trainer, its steps watched."""
    from pebble.integrations.transformers import budgeted

    own, batches = trainer.training_step, list[Any]()

    def held() -> list[Any]:
        models = [m for m in (trainer.model, getattr(trainer, "ref_model", None)) if m is not None]
        return tensors_of(models, trainer.optimizer, batches[-1])

    def step(model: Any, inputs: Any, *args: Any) -> Any:
        batches[:] = [inputs]
        return watch.step(partial(own, model, inputs, *args))

    def checkpoint() -> None:
        trainer.args.gradient_checkpointing = True
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
        if hasattr(trainer.model, "peft_config"):
            trainer.model.enable_input_require_grads()

    watch = Watch(lambda: int(trainer.state.epoch), held)
    trainer.training_step = step
    names = {"trainer": trainer, "budgeted": budgeted}
    return Loop(trainer.model, trainer.train, watch, names, checkpoint)


@loop(BUDGETED)
def trainer(model: nn.Module, **options: Any) -> Loop:
    """transformers.Trainer."""
    from transformers import Trainer, TrainingArguments

    args = settings(TrainingArguments, **options)
    return of_trainer(
        Trainer(model=model, args=args, train_dataset=sentences(), data_collator=padded)
    )


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(3, WORDS))]
    made = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def said(ids: torch.Tensor) -> str:
    return " ".join(f"w{int(i)}" for i in ids)


def adapters() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.1)


@loop(BUDGETED)
def trl_sft(model: nn.Module, *, lora: bool = False, **options: Any) -> Loop:
    """trl.SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    args = settings(SFTConfig, max_length=LENGTH, pad_to_multiple_of=LENGTH, **options)
    data = Dataset.from_list([{"text": said(s["input_ids"][:-1])} for s in sentences()])
    return of_trainer(
        SFTTrainer(
            model=model,
            args=args,
            train_dataset=data,
            processing_class=tokenizer(),
            peft_config=adapters() if lora else None,
        )
    )


@loop(BUDGETED)
def trl_dpo(model: nn.Module, *, lora: bool = False, **options: Any) -> Loop:
    """trl.DPOTrainer."""
    import copy

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    args = settings(DPOConfig, max_length=LENGTH, pad_to_multiple_of=LENGTH, **options)
    parts = [s["input_ids"][: LENGTH // 2 - 4].split(9) for s in sentences()]
    rows = [
        {"prompt": said(p[0]) + " ", "chosen": said(p[1]), "rejected": said(p[2])} for p in parts
    ]
    return of_trainer(
        DPOTrainer(
            model=model,
            ref_model=None if lora else copy.deepcopy(model),
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(),
            peft_config=adapters() if lora else None,
        )
    )


# -- Lightning -------------------------------------------------------------------------------------


@loop("callbacks.append(PebbleCallback(budget_bytes=budget, **options))")
def lightning(model: nn.Module, **options: Any) -> Loop:
    """lightning.Trainer."""
    import lightning.pytorch as pl

    from pebble.integrations.lightning import PebbleCallback

    class Tuned(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.model(**batch).loss
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    module, callbacks = Tuned(), list[Any]()
    batches, optimizers = list[Any](), list[Any]()

    def train() -> None:
        fit = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=EPOCHS,
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        automatic = fit.fit_loop.epoch_loop.automatic_optimization
        own = automatic.run

        def run(optimizer: Any, batch_idx: int, kwargs: Any) -> Any:
            batches[:], optimizers[:] = [kwargs["batch"]], [optimizer]
            return watch.step(partial(own, optimizer, batch_idx, kwargs))

        automatic.run, watch.epoch = run, lambda: fit.current_epoch
        fit.fit(module, loader())

    watch = Watch(lambda: 0, lambda: tensors_of([module], optimizers[0], batches[-1]))
    names = {"callbacks": callbacks, "PebbleCallback": PebbleCallback}
    status = lambda: callbacks[0].status  # noqa: E731
    return Loop(module, train, watch, names, model.gradient_checkpointing_enable, status)


# -- loops that people write -----------------------------------------------------------------------


def written(model: nn.Module, prepare: Any, *, precision: str = "no", clip: float = 0.0) -> Loop:
    """A loop over `names["model"]`, which the user's line may replace."""
    names: dict[str, Any] = {"model": model, "pebble": pebble}
    epochs, batches, optimizers = [0], list[Any](), list[Any]()

    def step(batch: Any) -> None:
        optimizer, scaler = optimizers[0], names["scaler"]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = names["model"](**batch).loss
        scaler(loss)
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    def train() -> None:
        names["model"].train()
        made = torch.optim.AdamW(names["model"].parameters(), lr=1e-3)
        names["model"], optimizer, data, names["scaler"] = prepare(names["model"], made, loader())
        optimizers[:] = [optimizer]
        for epoch in range(EPOCHS):
            epochs[0] = epoch
            for batch in data:
                batches[:] = [batch]
                optimizer.zero_grad()
                watch.step(partial(step, batch))

    watch = Watch(lambda: epochs[0], lambda: tensors_of([model], optimizers[0], batches[-1]))

    def status() -> Any:
        return pebble.status(names["model"])

    return Loop(model, train, watch, names, model.gradient_checkpointing_enable, status)


WRAPPED = 'model = pebble.budgeted(model, budget_bytes=budget, outputs="loss", **options)'


@loop(WRAPPED)
def accelerate(model: nn.Module, precision: str = "no", **options: Any) -> Loop:
    """A loop with an Accelerator."""

    def prepare(model: nn.Module, optimizer: Any, data: Any) -> Any:
        from accelerate import Accelerator

        accelerator = Accelerator(mixed_precision=precision, cpu=True)
        return (*accelerator.prepare(model, optimizer, data), accelerator.backward)

    return written(model, prepare, **options)


@loop(WRAPPED)
def plain(model: nn.Module, **options: Any) -> Loop:
    """A loop in plain torch."""

    def prepare(*given: Any) -> Any:
        return (*given, lambda loss: loss.backward())

    return written(model, prepare, clip=1.0, **options)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what the frameworks print."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    for name in ("lightning.pytorch", "pytorch_lightning", "trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
