"""Text and JSON in files: read with one sentence for what is wrong, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from errno import EISDIR
from pathlib import Path
from typing import Any

from pebble.errors import InvalidArgument, PebbleError
from pebble.schema import shortened

DEEPEST = 200
"""Levels of lists and objects in a file; what pebble writes has some ten."""


def shown(path: object) -> str:
    """A path in a sentence; the middle of a very long one is left out."""
    return shortened(str(path), 200)


def read_text(path: str | os.PathLike[str], *, what: str, error: type[PebbleError]) -> str:
    """The text of a UTF-8 file.

    Parameters
    ----------
    path : str or path-like
    what : str
        What the file is called in the sentence, such as "The plan".
    error : type
        What is raised.

    Raises
    ------
    PebbleError
        Of the given kind: there is no such file, it may not be read, or holds no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        reason = "it is no UTF-8 text"
    except OSError as raised:
        reason = raised.strerror or type(raised).__name__
    except (ValueError, TypeError) as raised:  # a null byte in the path, or no path at all
        reason = str(raised)
    raise error(f"{what} {shown(path)} cannot be read: {reason}.")


def parse_json(text: str) -> Any:
    """The data of a JSON text in which no name occurs twice in an object, of a sane depth.

    Raises
    ------
    ValueError
        With half a sentence: where it is damaged, which name occurs twice, or that it is nested
        too deeply.

    Examples
    --------
    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the name 'a' occurs twice in one object
    """
    try:
        data = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    level = [data]
    for _ in range(DEEPEST):
        level = [item for each in level for item in _contents(each)]
        if not level:
            return data
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _contents(item: Any) -> list[Any]:
    """The lists and objects right inside one."""
    inside = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return [each for each in inside if isinstance(each, (dict, list))]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the name {twice[:60]!r} occurs twice in one object")
    return found


def write_text(path: str | os.PathLike[str], text: str, *, what: str) -> None:
    """Write a file that is there whole or not at all, with the permissions that the umask leaves.

    Parameters
    ----------
    path : str or path-like
        What stands there is replaced; a link keeps pointing where it does.
    text : str
    what : str
        What the file is called in the sentence, such as "The plan".

    Raises
    ------
    InvalidArgument
        If the folder is missing or nothing can be written there; nothing is left behind.
    """
    write_bytes(path, text.encode("utf-8"), what=what)


def write_bytes(path: str | os.PathLike[str], content: bytes, *, what: str) -> None:
    """The same for a file that is no text."""
    check_folder(path, what=what)
    try:
        _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidArgument(f"{what} cannot be written to {shown(path)}: {reason}.") from None


def check_folder(path: str | os.PathLike[str], *, what: str) -> None:
    """Refuse to write a file where there is no folder for it; see `write_text`.

    Raises
    ------
    InvalidArgument
    """
    try:
        missing = not Path(os.path.realpath(path)).parent.is_dir()
    except (ValueError, TypeError) as error:  # a null byte in the path, or no path at all
        raise InvalidArgument(f"{what} cannot be written to {shown(path)}: {error}.") from None
    if missing:
        raise InvalidArgument(
            f"{what} cannot be written to {shown(path)}: there is no folder "
            f"{shown(Path(path).parent)}; make it first."
        )


def _replace(target: Path, content: bytes) -> None:
    if target.is_dir():
        raise IsADirectoryError(EISDIR, "it is a folder; name a file in it")
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
