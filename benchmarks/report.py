"""Write benchmarks/README.md from the results that the benchmarks left in results/*.json.

python benchmarks/report.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report_distributed
import report_integrations
from report_checks import card_graphs, fuzz, guards, mutations
from report_tables import markdown, percent, seconds
from report_zoo import sweeps, zoo

from pebble.formatting import gigabytes

HERE = Path(__file__).parent


def peers(data: dict[str, Any]) -> str:
    """The table of pebble beside its peers."""
    rows = []
    for result in data["models"]:
        for row in result["rows"]:
            ours = row.get("pebble")
            rows.append(
                [
                    result["model"],
                    row["peer"],
                    f"{row['peak'] / 1e6:.2f}",
                    f"{row['flops'] / 1e9:.4f}",
                    "no plan" if ours is None else f"{row['pebble_peak'] / 1e6:.2f}",
                    "-" if ours is None else f"{ours / 1e9:.4f}",
                ]
            )
    for result in data["models"]:
        for row in result["failed"]:
            rows.append([result["model"], row["peer"], "failed", row["failed"][:60], "-", "-"])
    header = ["model", "peer", "peak MB", "extra GFLOP", "pebble: peak MB", "extra GFLOP"]
    facts = "\n".join(
        f"* {key.replace('_', ' ')}: {value}" for key, value in data["summary"].items()
    )
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}, {data['threads']} threads). "
        "Each row: what a peer measured, and pebble at that very peak.\n\n"
        f"{facts}\n\n{markdown(header, rows)}"
    )


def published(data: dict[str, Any]) -> str:
    """Published graphs."""
    rows = []
    for cell in data["cells"]:
        runs = cell["runs"]
        found = [run["ci"] for run in runs if run["ci"] is not None]
        spent = [run["cpu_seconds"] for run in runs if "cpu_seconds" in run]
        rows.append(
            [
                f"{cell['graph']} {cell['budget']} %",
                f"{cell['time_limit']:.0f} s",
                f"{statistics.median(found):.3f}" if found else "none",
                " ".join("none" if r["ci"] is None else f"{r['ci']:.3f}" for r in runs),
                "/".join(sorted({f"{r['status']} ({r['scope']})" for r in runs})),
                f"{statistics.mean(r['seconds'] for r in runs):.0f}",
                f"{min(spent):.0f}-{max(spent):.0f}" if spent else "-",
            ]
        )
    header = ["cell", "limit", "CI % (median)", "every seed", "status", "seconds",
              "of processor"]  # fmt: skip
    note = data.get("note", "")
    return f"`{data['command']}` ({data['date']}). {note}\n\n{markdown(header, rows)}"


HANDED_OVER = {
    "loss": "The step hands over its loss and the gradients.",
    "all": "The step hands over all that the model returns, such as logits, which stay in memory.",
}


def scale(data: dict[str, Any]) -> str:
    """Planning of large graphs."""
    rows = []
    for result in data["models"]:
        for row in result.get("rows", []):
            rows.append(
                [
                    result["model"],
                    str(result["nodes"]),
                    f"{100 * row['share']:.0f} %" + (" (1.05 x floor)" if row["at_floor"] else ""),
                    percent(row["overhead"]) if "overhead" in row else "no plan",
                    percent(row.get("gap")),
                    seconds(row.get("planning")),
                    seconds(row.get("planning_cpu")),
                    "-" if row.get("settled") is None else f"{row['settled']:.2f}",
                    seconds(row.get("first")),
                    str(row.get("rss_mb", result["rss_mb"])),
                ]
            )
    header = ["model", "nodes", "budget", "extra compute", "above the bound (any order)",
              "planning s", "of processor", "to within 0.5 points s", "first plan s, cold",
              "MB resident"]  # fmt: skip
    s = data["summary"]
    facts = (
        f"Mean extra compute {percent(s['overhead_mean_50'])} at 50 % of the activation peak and "
        f"{percent(s['overhead_mean_25'])} at 25 % (where 25 % is above the floor). No schedule in "
        f"any order can have less than {percent(s['bound_mean_50'])} and "
        f"{percent(s['bound_mean_25'])} on average: that is proved. Planning takes "
        f"{s['planning_mean']:.1f} s on average and "
        f"{s['planning_most']:.1f} s at most; {s['rss_mb_most']} MB at most."
    )
    failed = [f"{r['model']}: {r['error']}" for r in data["models"] if "error" in r]
    if failed:
        facts = f"{facts} Not captured: {'; '.join(failed)}"
    return (
        f"`{data['command']}` ({data['date']}; {data['machine']}). {data['note']} Budgets are "
        f"parts of the activation peak, costs the roofline of an {data['device_of_costs']}. "
        f"{HANDED_OVER[data['outputs']]}"
        f"\n\n{facts}\n\n{markdown(header, rows)}"
    )


def annealing(data: dict[str, Any]) -> str:
    """Speed of the annealer on small and large graphs."""
    rows = [
        [
            f"{row['ops']:,}",
            f"{row['trials_per_cpu_second']:,.0f}",
            f"{row['speed_beside_first']:.2f}",
            f"{row['bytes_per_op']:.0f}",
        ]
        for row in data["rows"]
    ]
    header = ["ops", "trials per processor second", "beside the first", "bytes per op"]
    return (
        f"`{data['command']}` ({data['date']}; {data['machine']}). {data['note']}\n\n"
        + markdown(header, rows)
    )


def batch_size(data: dict[str, Any]) -> str:
    """The largest batches, run."""
    rows = [
        [
            row["model"],
            gigabytes(row["budget"]),
            str(row["unplanned"]),
            str(row["planned"]),
            f"{row['times']:.1f}",
            percent(row["overhead"]),
            str(row["chunks"] or "-"),
            str(row["most"]),
            str(row["limit"]),
            f"{row['one_piece_most']} of {row['one_piece_limit']}" if row["chunks"] else "-",
            "yes" if row["ok"] else "NO",
        ]
        for row in data["rows"]
    ]
    header = ["model", "budget", "batch without a plan", "with a plan", "times", "extra compute",
              "loss chunks", "at any compute", "bound, loss in one piece",
              "loss in one piece and alone, of its bound",
              "fits, and the next does not"]  # fmt: skip
    return (
        f"`python benchmarks/batch_size.py` ({data['date']}, torch {data['torch']}). The plan "
        f"takes at most {percent(data['max_overhead'])} extra compute. Each batch was run, and so "
        "was one more than the largest without a plan and at any compute.\n\n"
        + markdown(header, rows)
    )


def chunked_loss(data: dict[str, Any]) -> str:
    """Trade-off curves of language models."""
    parts = []
    for result in data["results"]:
        rows = [
            [
                f"{row['chunks']} chunks" if row["chunks"] else "one piece",
                "least" if row["cut"] is None else f"{row['cut']} %",
                gigabytes(row["peak"]) if row["plan"] else "no plan",
                gigabytes(row["activations"]) if row["plan"] else "-",
                percent(row["overhead"]) if row["plan"] else "-",
            ]
            for row in result["rows"]
        ]
        header = ["loss", "activations cut by", "peak", "activations", "extra compute"]
        parts.append(
            f"**{result['shape']}**: {gigabytes(result['unplanned_activations'])} of activations "
            f"without a plan. Loss in one piece and handed over alone: least peak "
            f"{gigabytes(result['least_in_one_piece'])}, "
            f"{percent(result['least_over_working_set_bound'])} above the working-set bound "
            f"{gigabytes(result['working_set_bound'])}; with the logits handed over too "
            f"{gigabytes(result['least_with_logits'])}, the least that any schedule needs being "
            f"{gigabytes(result['held_bound'])}.\n\n" + markdown(header, rows)
        )
    intro = (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}): batch {data['batch']} x "
        f"{data['length']} tokens, {data['dtype']}, costs {data['costs']}. Activations: the step's "
        "peak less parameters, gradients and optimizer state."
    )
    return "\n\n".join([intro, *parts])


def memory_model(data: dict[str, Any]) -> str:
    """Predicted and measured peaks of whole steps with an optimizer."""
    rows = []
    for model, tuning in dict.fromkeys((r["model"], r["tuning"]) for r in data["rows"]):
        cells = [r for r in data["rows"] if (r["model"], r["tuning"]) == (model, tuning)]
        errors = [e for r in cells for e in r["errors"]]
        rows.append(
            [
                model,
                tuning,
                ", ".join(dict.fromkeys(r["optimizer"] for r in cells)),
                str(sum(len(r["measured"]) for r in cells)),
                gigabytes(max(max(r["measured"]) for r in cells)),
                percent(min(errors)),
                percent(max(errors)),
            ]
        )
    header = ["model", "tuning", "optimizers", "steps", "largest peak", "least error",
              "largest error"]  # fmt: skip
    s = data["summary"]
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}): {s['rows']} rows, "
        f"{s['steps']} steps, {s['failures']} off by more than 1 %. Micro-batches 1 and 4, first "
        "steps and later ones.\n\n" + markdown(header, rows)
    )


def games(data: dict[str, Any]) -> str:
    """What the engines of the pebble games reach."""
    rows = [
        [
            row["engine"],
            row["question"],
            row["game"],
            row["graph"],
            str(row["nodes"]),
            "-" if row["given"] is None else str(row["given"]),
            row["status"],
            "-" if row["value"] is None else str(row["value"]),
            "-" if row["bound"] is None else str(row["bound"]),
            seconds(row["seconds"]),
            seconds(row["processor"]),
        ]
        for row in data["reach"]["rows"]
    ]
    header = ["engine", "question", "game", "graph", "nodes", "given", "status", "value", "bound",
              "s", "of processor"]  # fmt: skip
    agree = "; ".join(
        f"{row['game']}: {row['points']} points of {row['graphs']} graphs of {row['nodes']} nodes"
        for row in data["agree"]["rows"]
    )
    played = data["play"]["rows"][-1]
    intro = (
        f"`python benchmarks/games.py` ({data['reach']['date']}; load average of the machine "
        f"{data['reach']['load']}, limit {data['reach']['limit_seconds']:.0f} s each). A strategy "
        f"of a million moves is checked in {played['million_seconds']:.2f} s. Engines agree on: "
        f"{agree}."
    )
    return "\n\n".join([intro, netlists(data["netlists"]["rows"]), markdown(header, rows)])


def netlists(rows: list[dict[str, Any]]) -> str:
    """Logic netlists under the reversible game, beside the published figures."""
    body = [
        [
            row["netlist"],
            str(row["nodes"]),
            f"{row['pebbles']} / {row['moves']}",
            f"{row['published_pebbles']} / {row['published_moves']}",
            f"{row['published_pebbles']} / {row['moves_with_these']}",
            f"{row['fewest_pebbles']} / {row['their_moves']}",
        ]
        for row in rows
    ]
    header = ["netlist (pebbles / moves)", "gates", "fewest moves there are",
              "published fewest pebbles", "ours with these pebbles",
              "our fewest pebbles"]  # fmt: skip
    return markdown(header, body)


def integrations(data: dict[str, Any]) -> str:
    """Loops that people have."""
    table = markdown(report_integrations.HEADER, report_integrations.cells(data))
    return f"{report_integrations.integrations(data)}\n\n{table}"


def distributed(data: dict[str, Any]) -> str:
    """Several ranks."""
    table = markdown(report_distributed.HEADER, report_distributed.cells(data))
    return f"{report_distributed.distributed(data)}\n\n{table}"


SECTIONS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("zoo", "Predicted and measured, to the byte", zoo),
    ("sweeps", "More budget never costs more, in separate calls", sweeps),
    ("peers", "Beside peers", peers),
    ("published", "Published graphs", published),
    ("scale", "Planning at scale", scale),
    ("scale_all_outputs", "Planning at scale, with the logits handed over", scale),
    ("annealing", "Speed of the annealer", annealing),
    ("memory_model", "Whole steps with an optimizer", memory_model),
    ("batch_size", "Largest batches", batch_size),
    ("chunked_loss", "Language models with the loss in chunks", chunked_loss),
    ("integrations", "Loops that people have", integrations),
    ("distributed", "Several ranks", distributed),
    ("games", "Pebble games", games),
    ("fuzz", "Random models", fuzz),
    ("guards", "Checks of a planned call", guards),
    ("mutations", "Damaged files", mutations),
    ("card_graphs", "Cards that are not at hand", card_graphs),
]


def page() -> str:
    """The whole page, from what is there."""
    parts = [
        "# Benchmarks\n\nWritten by `python benchmarks/report.py` from `results/*.json`. Machines "
        "are noisy: compare columns of one table, not seconds of two. What is not here was not "
        "measured."
    ]
    for name, title, write in SECTIONS:
        path = HERE / "results" / f"{name}.json"
        body = write(json.loads(path.read_text())) if path.exists() else "Not measured."
        parts.append(f"## {title}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Read what is there, write the page."""
    (HERE / "README.md").write_text(page())


if __name__ == "__main__":
    main()
