"""How kernels are compiled.

Numba looks for changes in the file of an entry only: whoever edits an inner kernel of another file
removes the entries' ``*.nbi`` from ``__pycache__``.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numba
import numba.core.compiler
import numba.core.errors

_BARE: dict[str, Any] = {"nogil": True, "_nrt": False}
# Without reference counts: no kernel makes an array, and counting those to the arrays that it is
# given, atomically and at each use, takes longer than the work itself.


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for callers that are compiled themselves."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_BARE}
    return numba.njit(**options)(function)  # type: ignore[no-any-return]


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for Python; the result is kept on disk where one can write."""
    return _kept(function, _BARE)


def entry_with_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for Python a function that makes arrays."""
    return _kept(function, {"nogil": True})


def _kept(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no place for a cache
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


# -- what is on disk, and compiling in a thread ----------------------------------------------------


def keeps(kernel: Any) -> bool:
    """Whether what an entry is compiled to goes to disk."""
    return kernel.stats.cache_path is not None


def is_kept(kernel: Any) -> bool:
    """Whether an entry lies on disk, compiled for this processor from its file as it is now."""
    try:
        cache = kernel._cache  # noqa: SLF001
        here = cache._index_key(None, kernel.targetctx.codegen())[1:]  # noqa: SLF001
        return any(key[1:] == here for key in cache._cache_file._load_index())  # noqa: SLF001
    except (AttributeError, OSError):
        return False


@contextlib.contextmanager
def without_catching_warnings() -> Iterator[None]:
    """Numba does without `warnings.catch_warnings` meanwhile, so that it may compile in a thread.

    Python's filters and `showwarning` are those of all threads: a thread that leaves
    `catch_warnings` takes away what another has set since.
    """
    deaf = _Warnings()
    with (
        mock.patch.object(numba.core.errors, "warnings", deaf),
        mock.patch.object(numba.core.compiler, "warnings", deaf),
    ):
        yield


class _Warnings:
    """The module `warnings`, but nothing is caught and no filter is set."""

    def catch_warnings(self, **_: Any) -> contextlib.nullcontext[list[Any]]:
        return contextlib.nullcontext([])

    def simplefilter(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)
