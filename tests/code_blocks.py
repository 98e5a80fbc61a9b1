"""The code in documents: its blocks, what each of them needs, and what is printed under it."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.house import ROOT

_BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[a-z ]+) -->\n)?^```(?P<language>python|bash)\n(?P<code>.*?)^```$"
    r"(?:\n\n(?P<vary><!-- numbers vary -->\n)?```text\n(?P<output>.*?)^```$)?",
    flags=re.DOTALL | re.MULTILINE,
)
ELSEWHERE = ("gpu", "torchrun")
"""Needs of blocks that are compiled and listed, and run on no machine of the tests."""
MINUTES = "minutes"
"""The need of commands that take minutes: they run by themselves, in the slow tests."""
_AS_PRINTED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes
    ----------
    where : str
        File and line.
    language : "python" or "bash"
    needs : str
        Packages beside the library's own, or what no test machine has; "" for most.
    code : str
    output : str or None
        The block of text right under it: what it prints, with ``...`` for what varies.
    numbers_vary : bool
        Whether what is printed has other numbers on other machines (``<!-- numbers vary -->``):
        then the words are compared.
    """

    where: str
    language: str
    needs: str
    code: str
    output: str | None
    numbers_vary: bool = False

    def compiled(self) -> Any:
        """Its Python; the lines of a traceback are those of the document."""
        return compile(self.code, self.where, "exec")

    def commands(self) -> list[list[str]]:
        """The words of each of its commands."""
        lines = self.code.replace("\\\n", " ").splitlines()
        found = [shlex.split(line, comments=True) for line in lines]
        return [words for words in found if words]

    def run(self, names: dict[str, Any]) -> None:
        """Run it and hold what it prints against what is written under it."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if self.language == "python":
                exec(self.compiled(), names)
            else:
                for words in self.commands():
                    run_command(words)
        if self.output is not None:
            got, wanted = printed.getvalue(), self.output
            if self.numbers_vary:
                got, wanted = _words(got), _words(wanted)
            same = doctest.OutputChecker().check_output(wanted, got, _AS_PRINTED)
            assert same, f"{self.where} printed\n{got}\nand not\n{wanted}"


def blocks_of(path: Path) -> list[Block]:
    """The Python and shell of a document, in its order."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT)
    return [
        Block(
            f"{name}:{text.count(chr(10), 0, found.start()) + 1}",
            found["language"],
            found["needs"] or "",
            found["code"],
            found["output"],
            found["vary"] is not None,
        )
        for found in _BLOCK.finditer(text)
    ]


def _words(text: str) -> str:
    """A printed text without its numbers, their units, and the widths of its columns."""
    text = re.sub(r"-?\d[\d,.]*(?: ?(?:[kMG]?B|[num]?s|%))?", "#", text)
    text = re.sub(r"\b(?:feasible|optimal)\b", "solved", text)
    return re.sub(r"-{2,}", "--", text)


def run_command(words: list[str]) -> None:
    """Run one command of `pebble` in this process."""
    from pebble.cli import main

    assert words[:3] == ["python", "-m", "pebble"], f"{words} is no command of pebble"
    assert main(words[3:]) == 0


def check_command(words: list[str], targets: set[str]) -> None:
    """See that a command exists and takes these arguments, without running it."""
    from pebble.cli.commands import argument_parser

    if words[:3] == ["python", "-m", "pebble"]:
        argument_parser().parse_args(words[3:])
    elif words[0] == "make":
        assert set(words[1:]) <= targets, words
    else:
        assert words[:2] in (["git", "clone"], ["pip", "install"]), words
