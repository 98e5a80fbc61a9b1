"""Build the wheel, install it in a clean environment outside the tree, import every module.

An explicit package list forgets new sub-packages, and an editable install hides it.
Run by ``make wheel``; exits 1 with the first module that cannot be imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    """Dotted names of every module in the tree, as they are called when installed."""
    names = []
    for folder, package in ((ROOT / "pebble", "pebble"), (ROOT / "solvers", "pebble.solvers")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            names.append(".".join([package, *(p for p in parts if p != "__init__")]))
    return [name for name in names if not name.endswith("__main__")]


def main() -> int:
    """Build, install, import."""
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--outdir", work, str(ROOT)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (wheel,) = Path(work).glob("*.whl")
        clean = Path(work) / "clean"
        # The dependencies come from this environment; the package itself must not.
        venv.create(clean, system_site_packages=False, with_pip=False)
        site = next(clean.glob("lib/python*/site-packages"))
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--target",
                site,
                wheel,
            ],
            check=True,
        )
        here = next(p for p in sys.path if p.endswith("site-packages"))
        (site / "dependencies.pth").write_text(f"import sys; sys.path.append({here!r})\n")
        code = (
            "import importlib, sys\n"
            "for name in sys.argv[2:]:\n"
            "    module = importlib.import_module(name)\n"
            "    assert module.__file__.startswith(sys.argv[1]), (name, module.__file__)\n"
            "print(f'{len(sys.argv) - 2} modules import from the wheel')\n"
        )
        done = subprocess.run(
            [clean / "bin" / "python", "-I", "-c", code, str(site.resolve()), *modules()],
            cwd=work,
        )
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
