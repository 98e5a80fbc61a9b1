"""Fake tensors on a card where there is none: what autograd asks of a device lies in C++ tables.

Without it, a node of autograd on a fake CUDA tensor ends the process on a build of torch for CPUs.
Whether the tables are as they are taken to be is tried in a process of its own first
(`why_no_card`): this file is that program, too, and therefore imports torch alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

_CUDA = 1  # c10::DeviceType::CUDA
_SLOTS = 64  # of a table of virtual functions; what lies behind its end is copied and never called
_BEFORE = 2  # offset to the top and type, in front of the first virtual function
_IS_BUILT, _HAS_CONTEXT = 2, 4  # of AcceleratorHooksInterface, after two destructors
_ONLY_ON_CARDS = ("_fused_rms_norm", "silu_backward", "mish_backward")
"""Every op of 2.11 and 2.13 that is one kernel on a card and other ops elsewhere."""
_CHECK_SECONDS = 600.0
_PASSED = "the tables are as expected"

_alive: list[Any] = []  # what C++ holds pointers to
_lock = threading.RLock()
_depth = 0


@functools.cache
def why_no_card() -> str | None:
    """Why fake tensors cannot be on a card in this process, in a sentence; None: they can.

    Tried once, in another process: a wrong table ends it.
    """
    if torch.cuda.is_available():
        return None
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        ran = subprocess.run(
            [sys.executable, "-P", __file__],
            capture_output=True,
            text=True,
            timeout=_CHECK_SECONDS,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"the check of torch {torch.__version__} could not be run ({type(error).__name__})"
    if ran.returncode == 0 and _PASSED in ran.stdout:
        return None
    said = (ran.stderr.strip() or "nothing was said").splitlines()[-1][:200]
    return f"the check of torch {torch.__version__} ended with {ran.returncode}: {said}"


def is_pretended() -> bool:
    """Whether this code runs inside of `pretended_card`."""
    return _depth > 0


@contextlib.contextmanager
def pretended_card() -> Iterator[None]:
    """Within it fake CUDA tensors can be differentiated, on any build of torch.

    Nothing is done where a card is at hand.
    """
    global _depth
    with _lock, contextlib.ExitStack() as stack:
        if not torch.cuda.is_available() and not _depth:
            lend_guard()
            stack.enter_context(_kernels_of_cards())
            stack.enter_context(_hooks())
            stack.enter_context(_autocast_of_cards())
            stack.enter_context(backward_in_this_thread())
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


def backward_in_this_thread() -> contextlib.AbstractContextManager[Any]:
    """A context in which a backward on a card that is only pretended needs no thread of its own.

    The engine has one for each device that it counted at its first backward. Entering
    `torch.inference_mode`, switched off or on, undoes this.
    """
    if torch.cuda.is_available():
        return contextlib.nullcontext()
    return torch.autograd.set_multithreading_enabled(False)


def lend_guard() -> None:
    """Let torch install its own device guard that does nothing; it stays.

    Autograd asks a guard for a stream whenever it makes a node. Torch installs one of its own
    where it finds a guard that reports no devices, as a build for cards does on a machine without
    one. A build for CPUs has none: it is lent one for that moment.
    """
    if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return
    registry = "_ZN3c104impl26device_guard_impl_registryE"
    table = (ctypes.c_void_p * (_CUDA + 1)).in_dll(_library("c10"), registry)
    if table[_CUDA] is not None:
        return
    zero = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(lambda this: 0)
    address = ctypes.cast(zero, ctypes.c_void_p).value
    functions = (ctypes.c_void_p * _SLOTS)(*[address] * _SLOTS)
    guard = (ctypes.c_void_p * 1)(ctypes.addressof(functions))
    _alive.extend((zero, functions, guard))
    lent = ctypes.addressof(guard)
    table[_CUDA] = lent
    torch._C._ensureCUDADeviceGuardSet()
    if table[_CUDA] == lent:
        table[_CUDA] = None
        raise RuntimeError("torch did not install a device guard of its own")


@contextlib.contextmanager
def _hooks() -> Iterator[None]:
    """Within it the engine of autograd hears that cards are built in, and that none has begun.

    It asks so of every device of a graph: a build for CPUs would say no to the first, and one for
    cards raises at the second where there is none.
    """
    ask = _library("torch_cpu")._ZN2at6detail12getCUDAHooksEv
    ask.restype = ctypes.c_void_p
    hooks = ctypes.cast(ask(), ctypes.POINTER(ctypes.c_void_p))
    before = hooks[0]
    assert before is not None
    hooks[0] = _functions_like(before)
    try:
        yield
    finally:
        hooks[0] = before


@functools.cache
def _functions_like(address: int) -> int:
    """The address of a copy of a table of virtual functions, two of them replaced."""
    functions = ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))
    both = [functions[i] for i in range(-_BEFORE, _SLOTS)]
    copy = (ctypes.c_void_p * len(both))(*both)
    built = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)(lambda this: True)
    begun = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int8)(lambda this, i: False)
    copy[_BEFORE + _IS_BUILT] = ctypes.cast(built, ctypes.c_void_p).value
    copy[_BEFORE + _HAS_CONTEXT] = ctypes.cast(begun, ctypes.c_void_p).value
    _alive.extend((copy, built, begun))
    return ctypes.addressof(copy) + _BEFORE * ctypes.sizeof(ctypes.c_void_p)


@contextlib.contextmanager
def _kernels_of_cards() -> Iterator[None]:
    """Within it the dispatcher takes for one kernel what is one on a card.

    Only fake tensors are on a card here, and they have rules of their own for each of these ops.
    """

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("There is no card here to run this on.")

    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    try:
        for name in _ONLY_ON_CARDS:
            if hasattr(torch.ops.aten, name) and not has_kernel(f"aten::{name}", "CUDA"):
                library.impl(name, missing, "CUDA")
        yield
    finally:
        library._destroy()


@contextlib.contextmanager
def _autocast_of_cards() -> Iterator[None]:
    """Within it ``torch.autocast("cuda")`` in a forward is not switched off for want of a card."""
    common: Any = torch.cuda.amp.common
    with (
        mock.patch.object(common, "amp_definitely_not_available", lambda: False),
        mock.patch.object(torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True),
    ):
        yield


def _library(name: str) -> ctypes.CDLL:
    ending = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    prefix = "" if sys.platform == "win32" else "lib"
    folder = os.path.join(os.path.dirname(torch.__file__), "lib")
    return ctypes.CDLL(os.path.join(folder, f"{prefix}{name}.{ending}"))


def _check() -> None:
    """A small step on a fake card: what it asks of the tables is what a capture asks."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    nn = torch.nn.functional
    torch.ones(2, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]  # as in a process that has trained before
    with pretended_card(), FakeTensorMode():
        x = torch.empty(4, 8, device="cuda")
        weight = torch.empty(8, 8, device="cuda", requires_grad=True)
        for _ in range(2):  # the second backward begins where the first has left the engine
            y = nn.silu(nn.rms_norm(nn.linear(x, weight), (8,)))
            (grad,) = torch.autograd.grad(y.sum(), weight)
            assert grad.device.type == "cuda" and grad.shape == weight.shape
    weight = torch.ones(2, requires_grad=True)
    weight.square().sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None and weight.grad.tolist() == [2.0, 2.0]
    sys.stdout.write(_PASSED)


if __name__ == "__main__":
    _check()
