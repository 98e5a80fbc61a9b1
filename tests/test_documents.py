"""README, CONTRIBUTING and their like speak of the tree as it is."""

from __future__ import annotations

import re
import tomllib

import pytest

from pebble._version import __version__
from tests.house import FLOORS, ROOT, modules

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
ROOMS = sorted({module.room for module in modules().values()} - {"root", "front doors"})


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(name))
    assert links or name == "benchmarks/README.md"
    local = [link for link in links if not link.startswith("http")]
    missing = [link for link in local if not (ROOT / name).parent.joinpath(link).exists()]
    assert missing == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_map_shows_every_room(name: str) -> None:
    assert [room for room in ROOMS if f"{room}/" not in read(name)] == []


def test_the_drawing_has_the_floors_in_their_order() -> None:
    drawing = read("CONTRIBUTING.md").split("```")[3]
    rows = [line.split("/")[0] for line in drawing.splitlines() if re.match(r"\w+/", line)]
    numbers = [next(i for i, rooms in enumerate(FLOORS) if row in rooms) for row in rows]
    assert numbers == sorted(numbers, reverse=True)
    assert set(ROOMS) <= set(rows)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_named_files_are_there(name: str) -> None:
    """Paths in back-quotes or after `python`, as far as they begin with a folder of the tree."""
    folders = "pebble|solvers|tests|benchmarks|notebooks"
    named = set(re.findall(rf"\b(?:{folders})/[\w/.]+\.\w+", read(name)))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), flags=re.MULTILINE))
    named = set()
    for name in (*DOCUMENTS[:2], ".pre-commit-config.yaml", ".ci/run"):
        for words in re.findall(r"^(?:- )?(?:.*`)?make ([\w ]+)", read(name), flags=re.MULTILINE):
            named.update(words.split("  ")[0].split())
    assert named
    assert named <= targets


def test_the_version_is_said_once() -> None:
    assert f"\nversion: {__version__}\n" in read("CITATION.cff")
    assert f"\n## [{__version__}]" in read("CHANGELOG.md") or "dev" in __version__


def test_documents_name_the_oldest_torch_that_is_tested() -> None:
    pins = read("constraints-oldest.txt").splitlines()
    (pin,) = [line.removeprefix("torch==") for line in pins if line.startswith("torch==")]
    tested = ".".join(pin.split(".")[:2])
    private = read("pebble/tracing/torch_private/__init__.py")
    assert f"Written for torch {tested} and newer" in private
    assert f"tested with torch {tested} and " in read("README.md")


def test_addresses_agree() -> None:
    urls = tomllib.loads(read("pyproject.toml"))["project"]["urls"]
    assert {"Documentation", "Source", "Changelog", "Issues"} <= set(urls)
    assert all(url.startswith(urls["Source"]) for url in urls.values())
    assert f"repository-code: {urls['Source']}\n" in read("CITATION.cff")
