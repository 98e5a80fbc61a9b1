"""The README's Python examples run as they stand there, one after the other."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

import pebble
from pebble.solver import solver_rows
from tests.small_loops import small_loop
from tests.two_ranks import on_two_ranks

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [block for needed, block in _blocks() if not needed]
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["report"].ok  # type: ignore[attr-defined]
    assert sorted(os.listdir(tmp_path)) == [
        "plan.html", "plan.json", "plan.pickle", "trace.json"
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("needed", ["transformers accelerate", "trl", "lightning", "accelerate"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_loops_run(needed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model and data that are there, as the README says of them."""
    for package in needed.split():
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    found = [block for asked, block in _blocks() if asked == needed]
    assert len(found) == 1
    names = small_loop(needed)
    exec(compile(found[0], str(README), "exec"), names)
    callback, model = names.get("callback"), names["model"]
    status = pebble.status(model) if callback is None else callback.status
    assert status.planned_calls > 0
    assert status.unplanned_calls == 0


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
    (block,) = [block for asked, block in _blocks() if asked == "torchrun"]
    assert on_two_ranks(_on_a_rank, tmp_path, block) == [(1, 1), (1, 1)]


def _blocks() -> list[tuple[str, str]]:
    """The Python blocks, each with the packages that it needs beside the library's own."""
    found = re.findall(
        r"(?:<!-- needs: ([a-z ]+) -->\n)?```python\n(.*?)```", README.read_text(), flags=re.DOTALL
    )
    return [(needed, block) for needed, block in found]


def test_the_table_of_solvers_is_that_of_the_registry() -> None:
    rows = [("name", "what it does", "bound"), ("---", "---", "---")]
    rows += [(f"`{name}`", summary, bound) for name, summary, bound in solver_rows()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    found = re.search(r"<!-- solvers -->\n(.*)<!-- /solvers -->", README.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == table, "copy this table into the README"
