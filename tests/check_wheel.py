"""Build the wheel, install it in a clean environment outside the tree, import from there.

An explicit package list forgets new sub-packages, and an editable install hides it. Imported are
every module, the paths that must keep working, every name of `pebble.__all__`, and every import
of pebble in the documents, the notebooks and the benchmarks.
Run by ``make wheel``; exits 1 with the first import that fails.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from tests.house import ROOT, modules

KEPT = (
    "pebble.cli", "pebble.errors", "pebble.games", "pebble.graph", "pebble.plan",
    "pebble.plotting", "pebble.problem", "pebble.referee", "pebble.report", "pebble.schedule",
    "pebble.shapes", "pebble.solver", "pebble.solvers", "pebble.step", "pebble.tracing",
)  # fmt: skip
"""Paths that users import from, whatever stands behind them."""

EVERY_PUBLIC_NAME = "import pebble; [getattr(pebble, name) for name in pebble.__all__]"


def statements() -> list[str]:
    """Every import that has to work, as a line of Python, each once."""
    lines = [f"import {name}" for name in sorted(modules()) if not name.endswith("__main__")]
    lines += [f"import {name}" for name in KEPT]
    lines += [line for _, line in written_imports()]
    return [*dict.fromkeys(lines), EVERY_PUBLIC_NAME]


def written_imports() -> Iterator[tuple[str, str]]:
    """Where it stands, and the import: of pebble, in what users read and copy."""
    for where, source in written_code():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "pebble":
                yield where, ast.unparse(node)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] == "pebble":
                        yield where, f"import {alias.name}"


def written_code() -> Iterator[tuple[str, str]]:
    """Python of the documents, the notebooks' cells and the benchmarks."""
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL):
            yield path.name, block
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines(keepends=True)
                yield path.name, "".join(n for n in lines if not n.lstrip().startswith(("%", "!")))
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        yield path.name, path.read_text()


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this tree into a folder."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    """Install the wheel in a new environment; its folder of packages.

    The dependencies come from this environment; the package itself must not.
    """
    venv.create(environment, system_site_packages=False, with_pip=False)
    site = next(environment.glob("lib/python*/site-packages")).resolve()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*command, str(site), str(wheel)], check=True)
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text(f"import sys; sys.path.extend({here!r})\n")
    return site


IMPORT_ALL = """
import json, pathlib, sys
site, lines = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())
for line in lines:
    try:
        exec(line, {})
    except Exception as error:
        sys.exit(f"{line}\\n  {type(error).__name__}: {error}")
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "pebble":
        assert module.__file__.startswith(site), (name, module.__file__)
print(f"{len(lines)} imports work from the wheel")
"""


def main() -> int:
    """Build, install, import."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        site = install(build_wheel(folder), folder / "clean")
        listed = folder / "imports.json"
        listed.write_text(json.dumps(statements()))
        python = folder / "clean" / "bin" / "python"
        command = [python, "-I", "-c", IMPORT_ALL, str(site), str(listed)]
        return subprocess.run(command, cwd=work).returncode


if __name__ == "__main__":
    sys.exit(main())
