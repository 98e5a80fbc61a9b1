"""A step for a card has the attention of an eager call: no mask where no token is masked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pebble.tracing.step_form import StepForm
from pebble.tracing.unneeded_masks import masks_as_in_eager

transformers = pytest.importorskip("transformers")


def bert() -> Any:
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config).half().train()


def kernels(card: str, **more: torch.Tensor) -> dict[str, int]:
    ids = torch.zeros(2, 16, dtype=torch.long)
    inputs = {"input_ids": ids, "labels": ids.clone(), **more}
    return dict(StepForm(card=card).capture(bert(), (), inputs).kernels)


@pytest.mark.parametrize(("card", "kernel"), [("t4", "efficient"), ("a100", "flash")])
def test_without_a_padding_mask_attention_is_that_of_eager(card: str, kernel: str) -> None:
    assert kernels(card) == {kernel: 1}


def test_a_mask_that_is_passed_is_kept() -> None:
    assert kernels("a100", attention_mask=torch.ones(2, 16, dtype=torch.long)) != {"flash": 1}


def test_the_library_is_put_back() -> None:
    from transformers import masking_utils

    before = dict(vars(masking_utils))
    with pytest.raises(KeyError), masks_as_in_eager():
        assert vars(masking_utils) != before
        raise KeyError
    assert vars(masking_utils) == before
