"""The form of ``{n, edges, targets}``. Loads pydantic, so it is imported where data come in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from pebble.graph_schema import Amount


class NumberedForm(BaseModel):
    """Nodes 0 to n - 1, pairs (u, v) where v reads u, and nodes to end on."""

    n: Annotated[Amount, Field(ge=1)]
    edges: list[tuple[Amount, Amount]]
    targets: list[Amount] | None = None
