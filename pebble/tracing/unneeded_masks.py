"""Attention masks that transformers makes for a graph though eager calls go without them.

Where no token is masked it leaves the mask out, so that a card takes flash attention; but not while
a graph is exported, for then the contents of a padding mask are unknown. Without a padding mask
there is nothing to know. Calls with one keep theirs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

_MODULE, _QUESTION = "transformers.masking_utils", "is_torchdynamo_exporting"


def _no() -> bool:
    return False


@contextlib.contextmanager
def masks_as_in_eager() -> Iterator[None]:
    """Within it transformers makes no mask that an eager call without a padding mask would not."""
    module: Any = sys.modules.get(_MODULE)
    before = getattr(module, _QUESTION, None)
    if before is None:
        yield
        return
    setattr(module, _QUESTION, _no)
    try:
        yield
    finally:
        setattr(module, _QUESTION, before)
