"""The command line: exit statuses, JSON, and the formats of `solve`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pebble.cli import main, parse_budget
from pebble.errors import InvalidArgument
from pebble.graph import Graph, Op, Value
from pebble.graphfile import load_graph
from pebble.referee import simulate

CHAIN = """6 7
10 5
10 5
10 5
10 5
10 5
10 5
0 1
1 2
2 3
3 4
1 4
4 5
0 5
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.txt"
    path.write_text(CHAIN)
    return path


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    status = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("solver", ["ilp", "auto", "greedy"])
def test_solve_prints_a_schedule_that_replays(
    chain: Path, capsys: pytest.CaptureFixture[str], solver: str
) -> None:
    status, out, _ = run(capsys, "solve", chain, "--budget", "75%", "--solver", solver, "--json")
    answer = json.loads(out)
    trace = simulate(load_graph(chain), answer["order"])
    assert status == 0
    assert (answer["baseline_peak"], answer["baseline_cost"]) == (40, 30)
    assert (answer["peak"], answer["cost"]) == (trace.peak, trace.cost)
    assert answer["peak"] <= answer["budget"] == 30
    assert answer["lower_bound"] <= answer["cost"]
    assert set(answer) >= {"status", "bound_scope", "order", "lower_bound"}


def test_ilp_proves_the_fixed_order_optimum(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "solve", chain, "--budget", "30", "--solver", "ilp", "--json")
    answer = json.loads(out)
    assert (answer["status"], answer["cost"], answer["bound_scope"]) == (
        "optimal",
        35,
        "fixed order",
    )


def test_solve_reads_json_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph([Op("a", 1, (), (0,)), Op("b", 1, (0,), (1,))], [Value("x", 4), Value("y", 4)])
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(graph.to_json()))
    status, out, _ = run(capsys, "solve", path, "--budget", "8", "--solver", "keep_all")
    assert status == 0
    assert "this schedule" in out
    assert "optimal" in out


def test_exit_1_when_not_solved(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "solve", chain, "--budget", "29", "--json")
    answer = json.loads(out)
    assert status == 1
    assert (answer["status"], answer["order"], answer["peak"]) == ("infeasible", None, None)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--budget", "-5"], "InvalidArgument: The budget is '-5'"),
        (["--budget", "many"], "InvalidArgument: The budget is 'many'"),
        (["--budget", "nan"], "InvalidArgument: The budget is 'nan'"),
        (["--budget", "80%", "--solver", "magic"], "UnknownSolver: There is no solver 'magic'"),
        (["--budget", "80%", "--time-limit", "0"], "InvalidArgument: The time limit is 0.0"),
    ],
)
def test_exit_2_and_one_sentence_for_wrong_usage(
    chain: Path, capsys: pytest.CaptureFixture[str], args: list[str], text: str
) -> None:
    joined = [f"--budget={args[1]}", *args[2:]]
    status, out, err = run(capsys, "solve", chain, *joined)
    assert status == 2
    assert err.startswith(text)
    assert err.count("\n") == 1
    assert out == ""


def test_a_file_that_is_no_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "solve", tmp_path / "none.txt", "--budget", "1")
    assert status == 2
    assert err.startswith("GraphError: ")
    assert "none.txt" in err


def test_no_command_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "versions", "--json")
    assert status == 0
    assert {"pebble", "python", "torch", "ortools"} <= set(json.loads(out))


def test_show_of_a_damaged_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.json"
    path.write_text("[]")
    status, _, err = run(capsys, "show", path)
    assert status == 2
    assert "is no plan" in err


def test_percentages_round_down() -> None:
    assert parse_budget("33.3%", 1000) == 333
    assert parse_budget("100%", 999) == 999
    with pytest.raises(InvalidArgument):
        parse_budget("0.5", 10)
    with pytest.raises(InvalidArgument):
        parse_budget("0", 10)


@pytest.mark.parametrize(
    "text",
    ["1e9999999", "1e-9999999", "1e9999999%", "1e" + "9" * 5000, "9" * 5000, "nan", "inf%", "1/0"],
)
def test_a_budget_out_of_all_bounds_is_one_sentence(text: str) -> None:
    with pytest.raises(InvalidArgument, match="it must be a positive number of bytes") as error:
        parse_budget(text, 1000)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("number", ["0", "-1", "9" * 30, "9" * 5000, "x"])
def test_counts_are_counts(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(capsys, "optimize", "gpt2", "--budget-gb", "1", "--batch-size", number)
    assert stop.value.code == 2
    assert "argument --batch-size" in capsys.readouterr().err[-200:]


def test_paths_that_lead_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none" / "plan.json"
    for command in (
        ["solve", "a\0b", "--budget", "1"],
        ["show", "a\0b"],
        ["game", "black", "a\0b"],
        ["show", "x" * 5000],
        ["optimize", "gpt2", "--budget-gb", "1", "--output", missing],
    ):
        status, out, err = run(capsys, *command)
        assert (status, out) == (2, "")
        assert len(err) < 500
        assert err.count("\n") == 1


@pytest.mark.slow
def test_fit_prints_checklist_verdicts_and_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    from pebble.finetune.named_models import SHAPES

    small = {**SHAPES["gpt2"], "n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 200}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(small))
    options = ["--config", path, "--seq-len", "32", "--batch", "4", "--time-limit", "2"]
    status, out, _ = run(capsys, "fit", *options, "--budget-gb", "0.01")
    assert status == 0
    for words in (
        "base weights", "adapters", "optimizer", "activations", "total",
        "10.00 MB", "planned for", "9.80 MB",
        "T4", "RTX 3090", "A10", "A100", "H100", "H200", "plan = pebble.optimize(",
    ):  # fmt: skip
        assert words in out
    status, _, err = run(capsys, "fit", *options, "--budget-gb", "0.0001", "--method", "full")
    assert status == 1
    assert err.startswith("InfeasibleBudget: No recipe fits 98.00 kB")
    assert "2.00 kB of the budget are kept back as a margin." in err
    status, _, err = run(capsys, "fit", "--model", "llama-9000b")
    assert status == 2
    assert "llama-70b" in err


def test_optimize_plans_a_configuration_with_what_the_step_hands_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    rest = {"num_attention_heads": 2, "vocab_size": 3000, "max_position_embeddings": 64}
    kind = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    config.write_text(json.dumps({**kind, **sizes, **rest}))
    common = [
        "optimize", config, "--seq-len", "64", "--dtype", "fp32", "--optimizer", "none",
        "--accumulation-steps", "2", "--time-limit", "2", "--json",
    ]  # fmt: skip
    chunks = {}
    for outputs in ("all", "loss"):
        asked = ["--budget-gb", "0.0041", "--outputs", outputs]
        status, out, _ = run(capsys, *common, *asked)
        origin = json.loads(out)["origin"]
        assert (status, origin["outputs"], origin["accumulation_steps"]) == (0, outputs, 2)
        chunks[outputs] = origin["chunks"]
    assert chunks["loss"] == 0, "the loss in one piece fits once no logits are handed over"
    assert chunks["all"] > 1
    status, _, err = run(capsys, *common, "--budget-gb", "0.0001")
    assert status != 0
    assert "0.0001" in err or "100.00 kB" in err


def test_optimize_for_a_card_that_is_not_at_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    kind = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 300}
    config.write_text(json.dumps({**kind, "n_embd": 32, "n_layer": 1, "n_head": 2}))
    common = ["optimize", config, "--seq-len", "32", "--time-limit", "2"]
    path = tmp_path / "plan.json"
    status, out, _ = run(capsys, *common, "--budget-gb", "15", "--output", path)
    assert status == 0
    assert "Kernels of the T4 (compute capability 7.5) in fp16: 1 attention by" in out
    assert "reserved by torch's caching allocator" in out
    origin = json.loads(path.read_text())["origin"]
    assert (origin["card"], origin["precision"], origin["costs"]) == ("t4", "fp16", "roofline:t4")
    for asked in (["--budget-gb", "15", "--card", "cpu"], ["--budget-gb", "0.5"]):
        status, out, _ = run(capsys, *common, *asked, "--json")
        origin = json.loads(out)["origin"]
        assert (status, origin["card"], origin["precision"]) == (0, None, "bf16")
    status, out, _ = run(capsys, *common, "--budget-gb", "15", "--card", "h100", "--json")
    assert json.loads(out)["origin"]["precision"] == "bf16"
