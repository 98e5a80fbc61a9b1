"""The documentation runs as it stands, links lead somewhere, and every public name is there."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
import torch

import pebble
import pebble.errors
import pebble.games
from tests.code_blocks import ELSEWHERE, MINUTES, Block, blocks_of, check_command, run_command
from tests.house import ROOT
from tests.small_loops import run_loop

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
RUN_HERE = [page for page in PAGES if any(not block.needs for block in blocks_of(page))]
LOOPS = [b for b in blocks_of(DOCS / "guides/trainers.md") if b.needs not in ("", *ELSEWHERE)]


def shown(page: Path) -> str:
    return str(page.relative_to(DOCS))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE, ids=shown)
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in one namespace, each printing what is written under it."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    before = pebble.solver_names()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # losses outside of plans of a few MB
        for block in blocks_of(page):
            if not block.needs and not _is_set_up(block):
                block.run(names)
    for name in set(pebble.solver_names()) - set(before):
        pebble.solver.unregister(name)


def _is_set_up(block: Block) -> bool:
    """Whether it installs something: `make` and `git` are no part of a test."""
    return block.language == "bash" and block.commands()[0][0] in ("git", "make", "pip")


@pytest.mark.slow
@pytest.mark.parametrize("block", LOOPS, ids=lambda block: block.needs)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_loops_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_loop(block)


def _long_commands() -> list[list[str]]:
    """Of the README and the pages, each once; a plan that one writes is there for the next."""
    found: dict[str, list[str]] = {}
    for page in (ROOT / "README.md", *PAGES):
        for block in blocks_of(page):
            if block.needs == MINUTES:
                found |= {" ".join(words): words for words in block.commands()}
    return list(found.values())


def _write_what_commands_read(folder: Path) -> None:
    """A graph, a plan and the configuration of a model: what a user has at hand there."""
    net = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(4)])
    plan = pebble.optimize(net, torch.ones(4, 8), budget_gb=1, time_limit=10)
    plan.save(folder / "plan.json")
    edges = [*((k, k + 1) for k in range(7)), (2, 4), (1, 5), (0, 6)]
    rows = [f"8 {len(edges)}", *["4 1"] * 8, *(f"{u} {v}" for u, v in edges)]
    (folder / "graph.txt").write_text("\n".join(rows))
    shape = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1000}
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
    more = {"num_attention_heads": 4, "num_key_value_heads": 4}
    (folder / "config.json").write_text(json.dumps({**shape, **sizes, **more}))


@pytest.mark.slow
@pytest.mark.parametrize("words", _long_commands(), ids=" ".join)
def test_the_commands_that_take_minutes_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write_what_commands_read(tmp_path)
    run_command(words)


def test_what_does_not_run_here_is_compiled_and_listed() -> None:
    elsewhere = [b for page in PAGES for b in blocks_of(page) if b.needs in ELSEWHERE]
    assert elsewhere
    for block in elsewhere:
        block.compiled()
        # In the summary of pytest, of several processes too.
        warnings.warn(f"{block.where}: compiled only, it needs {block.needs}", stacklevel=1)


def test_commands_take_their_arguments() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    found = [b for page in PAGES for b in blocks_of(page) if b.language == "bash"]
    assert sum(block.needs == MINUTES for block in found) >= 3
    for block in found:
        for words in block.commands():
            if words[0] != "cd":
                check_command(words[: words.index("&&")] if "&&" in words else words, targets)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    """No fence with a language that nobody runs, and no need that nobody knows."""
    known = {"", *ELSEWHERE, MINUTES, *(block.needs for block in LOOPS)}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^```(\w*)$", text, flags=re.MULTILINE)
        assert set(fences) <= {"", "python", "bash", "text"}, page
        found = blocks_of(page)
        assert len(found) == sum(fence in ("python", "bash") for fence in fences), page
        assert {block.needs for block in found} <= known, page


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", t).strip().lower().replace(" ", "-") for t in titles}
            assert heading in slugs, link


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(contents) == sorted(map(shown, PAGES))


def test_the_reference_has_every_public_name() -> None:
    text = "\n".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))
    told = set(re.findall(r"^::: [\w.]+\.(\w+)$", text, flags=re.MULTILINE))
    public = {*pebble.__all__, *pebble.games.__all__, *vars(pebble.errors)}
    tables = {"ENGINES", "FAMILIES", "GAMES", "Strategy"}  # listed by the command line's help
    missing = {
        name for name in public - told - tables
        if not name.startswith("_") and isinstance(getattr(pebble, name, pebble), object)
        and name not in ("annotations", "math")
    }  # fmt: skip
    assert missing == set()


def test_the_page_of_benchmarks_is_what_its_results_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import report

    assert (ROOT / "benchmarks" / "README.md").read_text() == report.page(), (
        "run python benchmarks/report.py"
    )


def test_what_is_said_of_others_is_what_was_measured() -> None:
    """The sentences of docs/compare.md."""
    found = json.loads((ROOT / "benchmarks/results/peers.json").read_text())["summary"]
    assert found["peers_with_fewer_flops"] == []
    reached, models = found["models_where_pebble_reaches_the_lowest_peak"].split(" of ")
    assert reached == models
    assert 0.2 < found["mean_ratio_at_hf_peak"] < 0.3  # a quarter
    assert found["worst_ratio_at_hf_peak"] < 2 / 3
