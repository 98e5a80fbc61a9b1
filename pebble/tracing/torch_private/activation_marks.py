"""`requires_grad_()` on a tensor that the forward has made: a mark that changes no number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock


@contextlib.contextmanager
def unmarked_activations() -> Iterator[None]:
    """Within it dynamo reads over ``h.requires_grad_()`` and ``h.requires_grad = True``.

    Frozen embeddings in front of checkpointed layers, adapters and wav2vec2 mark an activation so
    that a backward reaches it. No parameter's gradient depends on that, and nobody reads the
    activation's own; dynamo refuses to trace it.
    """
    # Its handlers of these two are the only place where they can be told from other calls.
    from torch._dynamo.variables import builtin
    from torch._dynamo.variables.tensor import TensorVariable

    def calling(before: Any) -> Any:
        def call(self: Any, tx: Any, requires_grad: Any = True) -> Any:
            if self.source is None and _is_true(requires_grad):
                self.requires_grad = True
                return self
            return before(self, tx, requires_grad)

        return call

    def setting(before: Any) -> Any:
        def set_(self: Any, tx: Any, thing: Any, name: Any, value: Any) -> Any:
            marks = isinstance(thing, TensorVariable) and thing.source is None
            if marks and name.as_python_constant() == "requires_grad" and _is_true(value):
                thing.requires_grad = True
                return value
            return before(self, tx, thing, name, value)

        return set_

    with contextlib.ExitStack() as stack:
        for owner, name, around in (
            (TensorVariable, "method_requires_grad_", calling),
            (getattr(builtin, "SetAttrBuiltinVariable", None), "_call_setattr", setting),
            (getattr(builtin, "BuiltinVariable", None), "call_setattr", setting),  # until 2.12
        ):
            if hasattr(owner, name):
                changed = around(getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, changed))
        yield


def _is_true(flag: Any) -> bool:
    return flag is True or (
        hasattr(flag, "as_python_constant") and flag.as_python_constant() is True
    )
