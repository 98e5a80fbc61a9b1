"""The command `versions`: what a bug report needs."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
from typing import Any

from pebble._version import __version__
from pebble.cli.arguments import SOLVED


def add_versions(commands: Any) -> None:
    """Add the command ``versions``."""
    parser = commands.add_parser("versions", help="versions of what matters, for a bug report")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_versions)


def _versions(args: argparse.Namespace) -> int:
    versions = {"pebble": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "networkx", "ortools", "numba", "transformers", "matplotlib"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    versions["platform"] = platform.platform()
    if args.json:
        print(json.dumps(versions))
    else:
        print("\n".join(f"{name:14}{version}" for name, version in versions.items()))
    return SOLVED
