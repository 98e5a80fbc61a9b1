"""Attention masks that transformers makes for a graph though eager calls go without them.

Where no token is masked it leaves the mask out, so that a card takes flash attention; but not while
a graph is exported, for then the contents of a padding mask are unknown. Without a padding mask
there is nothing to know. Calls with one keep theirs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

_MODULE = "transformers.masking_utils"
_EXPORTING, _TRACING = "is_torchdynamo_exporting", "is_tracing"


def _no() -> bool:
    return False


def _of_a_mask_alone(is_tracing: Callable[[Any], bool]) -> Callable[..., bool]:
    """Older releases ask one question of a padding mask, and of none."""

    def asked(mask: Any = None) -> bool:
        return mask is not None and is_tracing(mask)

    return asked


@contextlib.contextmanager
def masks_as_in_eager() -> Iterator[None]:
    """Within it transformers makes no mask that an eager call without a padding mask would not."""
    module: Any = sys.modules.get(_MODULE)
    question = next((name for name in (_EXPORTING, _TRACING) if hasattr(module, name)), None)
    if question is None:
        yield
        return
    before = getattr(module, question)
    setattr(module, question, _no if question == _EXPORTING else _of_a_mask_alone(before))
    try:
        yield
    finally:
        setattr(module, question, before)
