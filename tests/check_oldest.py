"""What must hold under the oldest releases of torch and transformers that are held to.

Run by ``make test-oldest`` with the Python of their environment: the tests of capture, apply,
validate and plan files run there, and plans that one torch saves are applied under the other, both
ways. For the ways across, the newer torch gets the transformers of the oldest environment: under
other modelling code a model is another graph. Exits 1 if anything fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.house import PARTS, ROOT

TESTS = (
    "tests/tracing", "tests/runtime", "tests/plan/test_plan.py", "tests/plan/test_loading.py",
)  # fmt: skip
MODELLING = (
    "transformers", "huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "truststore",
    "certifi",
)  # fmt: skip
"""What transformers needs of its own: the oldest has another major version of its hub."""


def link_package(folder: Path) -> Path:
    """A folder to import this tree's pebble from: no environment outside the tree installs it."""
    package = folder / "pebble"
    package.mkdir(parents=True)
    for name in PARTS:
        if name == "pebble":
            for inner in (ROOT / name).iterdir():
                (package / inner.name).symlink_to(inner)
        else:
            (package / name).symlink_to(ROOT / name)
    return folder


def link_modelling(folder: Path, python: str) -> Path:
    """A folder with the transformers of another environment, and what it needs of its own."""
    where = [python, "-c", "import transformers; print(transformers.__file__)"]
    found = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    site = Path(found).parent.parent
    folder.mkdir()
    for name in (name for name in MODELLING if (site / name).exists()):
        (folder / name).symlink_to(site / name)
        for about in site.glob(f"{name}-*.dist-info"):
            (folder / about.name).symlink_to(about)
    return folder


def run(python: str, folders: list[Path], *command: str) -> bool:
    """Whether a module runs well under a Python that imports from these folders first."""
    paths = os.pathsep.join(map(str, [*folders, ROOT]))
    # The tree's own folder `pebble` has no solvers: it must not stand before what links to both.
    inner = {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    environment = os.environ | inner | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([python, "-m", *command], cwd=ROOT, env=environment).returncode == 0


def main(oldest: str) -> int:
    """Every part, also after one that failed."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        package = link_package(folder / "package")
        old = oldest, [package]
        new = sys.executable, [link_modelling(folder / "modelling", oldest), package]
        well = [run(*old, "pytest", "-p", "no:cacheprovider", "-m", "not slow", *TESTS)]
        for (saver, applier), name in (((new, old), "newer"), ((old, new), "older")):
            plans = folder / name
            plans.mkdir()
            well.append(run(*saver, "tests.plans_across", "save", str(plans)))
            well.append(run(*applier, "tests.plans_across", "apply", str(plans)))
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
