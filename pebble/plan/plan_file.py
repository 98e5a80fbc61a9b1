"""Plans as files: JSON with a version; never pickle. What is inside is `Plan.to_json`'s to say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from pebble._version import __version__
from pebble.errors import PlanFormatError
from pebble.textfile import parse_json, read_text, write_text

FILE_FORMAT = "pebble-plan"
SCHEMA_VERSION = "1.0"


def file_header() -> dict[str, str]:
    """What every plan's data begin with."""
    return {
        "format": FILE_FORMAT,
        "schema_version": SCHEMA_VERSION,
        "pebble_version": __version__,
    }


def write_plan_file(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a plan's data: whole, or not at all.

    Raises
    ------
    InvalidArgument
        If the folder is missing or nothing can be written there.
    """
    write_text(path, json.dumps(data, indent=1, default=str), what="The plan")


def read_plan_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The data of a plan file, its header checked.

    Raises
    ------
    PlanFormatError
        If the file is no plan or has a newer major version.
    """
    text = read_text(path, what="The plan", error=PlanFormatError)
    try:
        data = parse_json(text)
    except ValueError as error:
        raise PlanFormatError(f"The plan {str(path)!r} is no JSON: {error}.") from None
    if not isinstance(data, dict) or data.get("format") != FILE_FORMAT:
        raise PlanFormatError(f'{str(path)!r} is no plan: it has no "format": "{FILE_FORMAT}".')
    version = str(data.get("schema_version"))
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise PlanFormatError(
            f"The plan {str(path)!r} has schema version {version[:60]}; this release "
            f"(pebble {__version__}) reads {SCHEMA_VERSION.split('.')[0]}.x. "
            "Read it with the release that wrote it, or make it again."
        )
    return data
