"""How kernels are compiled.

Numba looks for changes in the file of an entry only: whoever edits an inner kernel of another file
removes the entries' ``*.nbi`` from ``__pycache__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

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
