"""Whether two builds of torch, none of them on a card, trace the same graph for each card.

    PYTHONPATH=. python benchmarks/card_graphs.py OTHER_PYTHON [--models vit,unet] [--work DIR]

Ten models of the zoo as cards of compute capability 7.5, 8.0 and 9.0 run them, in fp32 and, where
they have attention, in fp16; under this Python and under that of another environment (the one of
`make test-oldest`: an older torch, built for cards), with the transformers of this one. Compared
are fingerprints; where two differ, the first difference is printed. Exits 1 if one does that is
not in `KNOWN`. What is in DIR already is not traced again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from models import ZOO, WithLoss

from pebble.graph import Graph
from pebble.plan.differences import first_difference
from pebble.tracing.step_form import StepForm
from tests.check_oldest import link_modelling, link_package
from tests.house import ROOT

MODELS = (
    "llama_small", "gpt2_dropout", "bert_dropout", "vit", "t5", "whisper", "resnet", "unet",
    "llama_lora", "autocast",
)  # fmt: skip
CARDS = ("t4", "a100", "h100")
HALF = frozenset(("llama_small", "gpt2_dropout", "bert_dropout", "vit", "t5", "llama_lora"))
_MASK = "before torch 2.12 a mask for cuDNN is filled with -65504, since then with -inf"
_DROPOUT = "since torch 2.12 cuDNN is taken for dropouts of n/16 alone"
KNOWN = {
    "llama_small fp16 h100": _MASK,
    "llama_lora fp16 h100": _MASK,
    "gpt2_dropout fp16 h100": _DROPOUT,
    "bert_dropout fp16 h100": _DROPOUT,
    "t5 fp16 h100": _DROPOUT,
}
"""Cases in which the two releases of torch do different things on the card itself."""


def cases(names: list[str]) -> Iterator[tuple[str, str, str]]:
    """Model, precision and card."""
    for name in names:
        for precision in ("fp32", "fp16") if name in HALF else ("fp32",):
            for card in CARDS:
                yield name, precision, card


def made(name: str, precision: str) -> tuple[Any, dict[str, Any]]:
    """A model of the zoo in a precision, and its inputs."""
    if name == "autocast":  # the whole step, as a trainer does it
        inner, inputs = ZOO["autocast_mlp"]()
        return WithLoss(inner.body, torch.nn.functional.mse_loss), inputs
    model, inputs = ZOO[name]()
    if precision == "fp16":
        model = model.half()
        inputs = {k: v.half() if v.is_floating_point() else v for k, v in inputs.items()}
    return model, inputs


def save(folder: Path, names: list[str]) -> None:
    """Write the graph of each case into a folder."""
    torch.set_num_threads(1)
    for name, precision, card in cases(names):
        path = folder / f"{name} {precision} {card}.json"
        if path.exists():
            continue
        model, inputs = made(name, precision)
        began = time.process_time()
        cast = torch.autocast("cpu", dtype=torch.float16, enabled=name == "autocast")
        with cast:
            captured = StepForm(card=card).capture(model, (), inputs)
        data = {
            "graph": captured.graph.to_json(),
            "kernels": dict(captured.kernels),
            "seconds": round(time.process_time() - began, 1),
        }
        path.write_text(json.dumps(data))


def run(python: str, folders: list[Path], folder: Path, names: list[str]) -> None:
    """The same in an environment."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join(map(str, [*folders, ROOT / "benchmarks", ROOT]))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    command = [python, __file__, python, "--save", str(folder), "--models", ",".join(names)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)


def compared(ours: Path, theirs: Path, names: list[str]) -> dict[str, Any]:
    """What each case has come to."""
    found: dict[str, Any] = {}
    for case in map(" ".join, cases(names)):
        one, other = (json.loads((f / f"{case}.json").read_text()) for f in (ours, theirs))
        graphs = [Graph.from_json(data["graph"]) for data in (one, other)]
        found[case] = {
            "equal": graphs[0].fingerprint == graphs[1].fingerprint,
            "ops": len(graphs[0].ops),
            "kernels": one["kernels"],
            "difference": first_difference(*graphs),
            "known": KNOWN.get(case),
            "seconds": [one["seconds"], other["seconds"]],
        }
        sys.stdout.write(f"{case}: {found[case]}\n")
    return found


def main() -> int:
    """Both environments, and what they have made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--work", type=Path)
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = args.models.split(",")
    if args.save:
        save(args.save, names)
        return 0
    with tempfile.TemporaryDirectory() as own:
        work, links = args.work or Path(own), Path(own)
        package = link_package(links / "package")
        modelling = link_modelling(links / "modelling", sys.executable)
        run(sys.executable, [package], work / "ours", names)
        run(args.other, [modelling, package], work / "theirs", names)
        found = compared(work / "ours", work / "theirs", names)
    ask = [args.other, "-c", "import torch; print(torch.__version__)"]
    other = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    data = {
        "command": "PYTHONPATH=. python benchmarks/card_graphs.py OTHER_PYTHON",
        "date": str(date.today()),
        "torch": [torch.__version__, other],
        "transformers": version("transformers"),
        "cases": found,
    }
    path = ROOT / "benchmarks" / "results" / "card_graphs.json"
    if names == list(MODELS):
        path.write_text(json.dumps(data, indent=1) + "\n")
    bad = [case for case, row in found.items() if not row["equal"] and not row["known"]]
    equal = sum(row["equal"] for row in found.values())
    sys.stdout.write(f"{equal} of {len(found)} equal; unexpected: {bad or 'none'}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
