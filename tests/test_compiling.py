"""How kernels are compiled."""

from __future__ import annotations

import pytest

from pebble import compiling


def test_without_a_cache_directory_it_still_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(**options: bool) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling.numba, "njit", njit)
    assert compiling.entry(len)([0]) == 1
