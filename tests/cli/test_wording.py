"""What the command line says in its own words: flags, and warnings in one line."""

from __future__ import annotations

import argparse
import warnings

import pytest

from pebble.cli import main
from pebble.cli.wording import in_flags, short_warnings
from pebble.errors import CardWarning

ADVICE = (
    "Try chunked_loss='auto', outputs='loss', a smaller micro-batch, a leaner optimizer, "
    "frozen parameters (LoRA), or budget_gb=1.646."
)


def test_advice_names_the_flags_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    status = main(["optimize", "gpt2", "--budget-gb", "0.5", "--seq-len", "32", "--card", "cpu"])
    told = capsys.readouterr().err
    assert status == 1
    assert told.startswith("InfeasibleBudget: 500.00 MB is below")
    assert "a smaller --batch-size, a leaner --optimizer, --method lora, or --budget-gb " in told
    assert "=" not in told


def test_what_a_command_has_no_flag_for_is_left() -> None:
    assert in_flags(ADVICE, argparse.Namespace()) == ADVICE
    assert in_flags(ADVICE, argparse.Namespace(budget_gb=1.0)).endswith(
        "(LoRA), or --budget-gb 1.646."
    )


def test_warnings_of_pebble_take_one_line_and_others_stay() -> None:
    before = warnings.formatwarning
    with short_warnings():
        told = warnings.formatwarning(CardWarning("too large"), CardWarning, "their.py", 3)
        other = warnings.formatwarning(UserWarning("other"), UserWarning, "their.py", 3)
    assert told == "CardWarning: too large\n"
    assert other.startswith("their.py:3: UserWarning: other")
    assert warnings.formatwarning is before


def test_a_budget_above_a_card_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    with pytest.warns(CardWarning, match=r"16\.00 GB is more than a T4 has .* budget_gb=15\.0"):
        main(["optimize", "gpt2", "--budget-gb", "16", "--seq-len", "32", "--card", "t4"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", CardWarning)
        main(["optimize", "gpt2", "--budget-gb", "14", "--seq-len", "32", "--card", "t4"])


def test_chunks_are_handed_over(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    call = ["optimize", "gpt2", "--budget-gb", "3", "--seq-len", "32", "--card", "cpu"]
    assert main([*call, "--chunked-loss", "4"]) == 0
    assert "in 4 chunks of tokens" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*call, "--chunked-loss", "many"])
