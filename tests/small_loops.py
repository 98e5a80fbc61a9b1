"""What the README's loops take as given: a small model, its data, a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.code_blocks import Block


def small_loop(needed: str) -> dict[str, Any]:
    """The names that a block of the README uses, by the packages that it needs."""
    import torch

    import pebble

    rows = [{"input_ids": torch.arange(2, 10), "labels": torch.arange(2, 10)} for _ in range(4)]
    names: dict[str, Any] = {"torch": torch, "pebble": pebble, "data": rows}
    names["loader"] = torch.utils.data.DataLoader(rows, batch_size=2)
    if needed == "lightning":
        import lightning

        class Module(lightning.LightningModule):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.net = torch.nn.Linear(8, 1)

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                loss = self.net(batch["input_ids"].float()).square().mean()
                self.log("loss", loss)
                return loss

            def configure_optimizers(self) -> Any:
                return torch.optim.AdamW(self.parameters())

        names["model"] = names["module"] = Module()
        return names
    from transformers import GPT2Config, GPT2LMHeadModel

    names["model"] = GPT2LMHeadModel(
        GPT2Config(
            n_layer=1, n_embd=16, n_head=2, vocab_size=16, n_positions=16,
            bos_token_id=1, eos_token_id=1, pad_token_id=0,
        )
    )  # fmt: skip
    if needed == "trl":
        from datasets import Dataset
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {name: i for i, name in enumerate(("<pad>", "<eos>", "<unk>", *"abcdefgh"))}
        made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        names["tokenizer"] = PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
        )
        names["texts"] = Dataset.from_list([{"text": "a b c d e f g"}] * 4)
    return names


def run_loop(block: Block) -> None:
    """Run a loop of a document on them; every step must be planned."""
    import pytest

    import pebble

    for package in block.needs.split():
        pytest.importorskip(package)
    names = small_loop(block.needs)
    exec(block.compiled(), names)
    callback, model = names.get("callback"), names["model"]
    status = pebble.status(model) if callback is None else callback.status
    assert status.planned_calls > 0
    assert status.unplanned_calls == 0
