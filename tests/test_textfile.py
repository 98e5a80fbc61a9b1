"""Files are read with one sentence for what is wrong, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pebble.errors import GraphError, InvalidArgument
from pebble.textfile import parse_json, read_text, write_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested more than 200 levels"),
        ("[" * 300 + "]" * 300, "nested more than 200 levels"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the name 'b' occurs twice"),
        ('{"a": ' + "9" * 10_000 + "}", "digits"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)
    assert parse_json("[" * 200 + "]" * 200)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path / "binary", "no UTF-8 text"),
        (tmp_path, "directory"),
        ("a\0b", "null byte"),
        ("a" * 5000, "too long"),
    ):
        with pytest.raises(GraphError, match=f"cannot be read: .*{reason}") as error:
            read_text(path, what="The graph", error=GraphError)
        assert len(str(error.value)) < 400
    (tmp_path / "marked").write_text("\ufeffx", encoding="utf-8")
    assert read_text(tmp_path / "marked", what="The graph", error=GraphError) == "x"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file", "text", what="The plan")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", "new \ud800", what="The plan")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InvalidArgument, match="cannot be written to .*: No space left on device"):
        write_text(tmp_path / "file", "new", what="The plan")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none" / "file", "there is no folder .*none'; make it first"),
        (tmp_path, "it is a folder"),
        ("a\0b", "null byte"),
        (tmp_path / ("a" * 300), "too long"),
    ):
        with pytest.raises(InvalidArgument, match=reason):
            write_text(path, "text", what="The plan")
    assert list(tmp_path.iterdir()) == []


def test_a_link_keeps_pointing_where_it_does(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "text", what="The plan")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "text"
