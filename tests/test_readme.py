"""The README's Python examples run as they stand there, one after the other."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

import pebble
from pebble.solver import solver_rows, unregister
from tests.code_blocks import blocks_of, check_command
from tests.small_loops import run_loop
from tests.two_ranks import on_two_ranks

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And print what is written under them."""
    monkeypatch.chdir(tmp_path)
    blocks = [
        block for block in blocks_of(README) if not block.needs and block.language == "python"
    ]
    assert sum(block.output is not None for block in blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        block.run(names)
    unregister("keep_everything")
    assert names["report"].ok  # type: ignore[attr-defined]
    assert sorted(os.listdir(tmp_path)) == [
        "plan.html", "plan.json", "plan.pickle", "trace.json"
    ]  # fmt: skip


def test_the_commands_take_their_arguments() -> None:
    makefile = README.with_name("Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))
    commands = [words for b in blocks_of(README) if b.language == "bash" for words in b.commands()]
    assert len(commands) >= 6
    for words in commands:
        check_command(words, targets)


@pytest.mark.slow
@pytest.mark.parametrize("needed", ["transformers accelerate", "trl", "lightning", "accelerate"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_loops_run(needed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model and data that are there, as the README says of them."""
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks_of(README) if block.needs == needed]
    run_loop(block)


def _on_a_rank(rank: int, block: str) -> tuple[int, int]:
    from torch import nn

    layers = [nn.Linear(16, 16) for _ in range(3)]
    net = nn.Sequential(*layers)
    net.blocks = layers[:2]
    x = torch.randn(8, 16)
    names = {"pebble": pebble, "model": nn.Linear(16, 4), "net": net, "x": x}
    exec(compile(block, str(README), "exec"), names)
    names["ddp"](x).sum().backward()  # type: ignore[operator]
    net(x).sum().backward()
    return pebble.status(names["ddp"]).planned_calls, pebble.status(net[0]).planned_calls  # type: ignore[arg-type]


@pytest.mark.slow
def test_several_ranks_run(tmp_path: Path) -> None:
    (block,) = [block.code for block in blocks_of(README) if block.needs == "torchrun"]
    assert on_two_ranks(_on_a_rank, tmp_path, block) == [(1, 1), (1, 1)]


def test_the_table_of_solvers_is_that_of_the_registry() -> None:
    rows = [("name", "what it does", "bound"), ("---", "---", "---")]
    rows += [(f"`{name}`", summary, bound) for name, summary, bound in solver_rows()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    found = re.search(r"<!-- solvers -->\n(.*)<!-- /solvers -->", README.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == table, "copy this table into the README"
