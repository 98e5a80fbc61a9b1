"""Sections of the report on random models, damaged files and the checks of a call."""

from __future__ import annotations

from typing import Any

from report_tables import markdown, percent


def fuzz(data: dict[str, Any]) -> str:
    """Random models by random schedules."""
    outcomes = data["outcomes"].values()
    kinds = sorted({outcome["schedule"] for outcome in outcomes} - {"none"})
    results = ("equal", "rounded", "wrong", "crash")
    rows = []
    for kind in kinds:
        found = [o for o in outcomes if o["schedule"] == kind]
        counted = [str(sum(o["result"] == result for o in found)) for result in results]
        rows.append([kind, *counted, str(sum(bool(o["bytes_off"]) for o in found))])
    refused = "".join(f"\n* {text}" for text in data["refusals"])
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}): {len(outcomes)} random "
        "models, each by a random schedule, beside eager: loss, gradients, buffers, inputs and "
        "random state after two steps, bit for bit, and the measured peak beside the predicted "
        f"one. {data['counts'].get('refused', 0)} were refused, with these sentences:\n{refused}"
        "\n\n" + markdown(["schedule", *results, "bytes off"], rows)
    )


def guards(data: dict[str, Any]) -> str:
    """What the checks of a call cost."""
    rows = [[name, f"{us:,.0f}"] for name, us in data["microseconds"].items()]
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}): {data['model']}, least "
        f"processor time of {data['times']} calls; all checks are "
        f"{percent(data['share_of_step'])} of a step.\n\n" + markdown(["", "microseconds"], rows)
    )


def mutations(data: dict[str, Any]) -> str:
    """What reading damaged files does."""
    kinds = sorted({key.partition(":")[0] for key in data["counts"]})
    rows = [
        [kind, *(str(data["counts"].get(f"{kind}: {what}", 0)) for what in ("refused", "accepted"))]
        for kind in kinds
    ]
    faults = ", ".join(f"{number} {fault}" for fault, number in data["faults"].items())
    return (
        f"`{data['command']}` ({data['date']}): {data['files']} damaged files; {faults}. Slowest "
        f"{data['slowest_seconds']} s, largest {data['largest_mb']} MB, longest sentence "
        f"{data['longest_sentence']} characters.\n\n"
        + markdown(["file", "refused", "accepted"], rows)
    )


def card_graphs(data: dict[str, Any]) -> str:
    """Graphs for cards, from two builds of torch."""
    cases = data["cases"]
    rows = []
    for case, row in cases.items():
        name, precision, card = case.split(" ")
        kernels = ", ".join(f"{n} {kernel}" for kernel, n in row["kernels"].items()) or "-"
        same = "yes" if row["equal"] else row["known"] or row["difference"]
        rows.append([name, precision, card, str(row["ops"]), kernels, same])
    equal = sum(row["equal"] for row in cases.values())
    return (
        f"`{data['command']}` ({data['date']}): the graphs that torch {data['torch'][0]} and "
        f"{data['torch'][1]} trace for cards of compute capability 7.5, 8.0 and 9.0, neither on a "
        f"card, both with transformers {data['transformers']}; {equal} of {len(cases)} have equal "
        "fingerprints. No card has been asked.\n\n"
        + markdown(["model", "precision", "card", "ops", "attention", "equal"], rows)
    )
