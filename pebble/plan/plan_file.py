"""Plans as files: JSON with a version; never pickle. What is inside is `Plan.to_json`'s to say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from pebble._version import __version__
from pebble.errors import PebbleError, PlanFormatError
from pebble.textfile import parse_json, read_text, shown, write_text

Built = TypeVar("Built")
FILE_FORMAT = "pebble-plan"
SCHEMA_VERSION = "1.1"


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
    write_text(path, as_text(data), what="The plan")


def as_text(data: Mapping[str, Any]) -> str:
    """A plan's data as JSON."""
    return json.dumps(data, indent=1, default=_plain)


def _plain(item: Any) -> Any:
    """What JSON has no form for: numpy's numbers as numbers, all else as text."""
    return item.item() if isinstance(item, np.number) else str(item)


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
        raise PlanFormatError(f"The plan {shown(path)} is no JSON: {error}.") from None
    if not isinstance(data, dict) or data.get("format") != FILE_FORMAT:
        raise PlanFormatError(f'{shown(path)} is no plan: it has no "format": "{FILE_FORMAT}".')
    version = str(data.get("schema_version"))
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise PlanFormatError(
            f"The plan {shown(path)} has schema version {version[:60]}; this release "
            f"(pebble {__version__}) reads {SCHEMA_VERSION.split('.')[0]}.x. "
            "Read it with the release that wrote it, or make it again."
        )
    return data


def build_from_file(
    path: str | os.PathLike[str],
    builder: Callable[[Mapping[str, Any]], Callable[[Mapping[str, Any]], Built]],
) -> Built:
    """What a plan file holds.

    Parameters
    ----------
    path : path-like
    builder : callable
        From the data to what makes something of them.

    Raises
    ------
    PlanFormatError
        If the file is no plan, has a newer major version, or is damaged.
    """
    data = read_plan_file(path)
    try:
        return builder(data)(data)
    except PebbleError as error:
        raise PlanFormatError(f"The plan {shown(path)} is damaged: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # without pydantic
        reason = f"{type(error).__name__} {error}"
        raise PlanFormatError(f"The plan {shown(path)} is damaged: {reason}.") from None
