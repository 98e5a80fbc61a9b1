"""The form of a graph's JSON. Loads pydantic, so it is imported where data come in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pebble.ops import Phase
from pebble.wiring import LARGEST_TOTAL

Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Amount = Annotated[int, Field(strict=True, ge=0, le=LARGEST_TOTAL)]


class Closed(BaseModel):
    """An object with these entries and no others."""

    model_config = ConfigDict(extra="forbid")


class OpForm(Closed):
    """An op; what is left out has its default."""

    name: Text
    cost: Amount
    inputs: list[Amount] = []
    outputs: list[Amount] = []
    workspace: Amount = 0
    phase: Phase = Phase.FORWARD
    recomputable: Flag = True
    kind: Text = ""
    module: Text = ""
    source: Text = ""


class ValueForm(Closed):
    """A value; what is left out has its default."""

    name: Text
    size: Amount
    external: Flag = False
    pinned: Flag = False
    spec: Text = ""


class GraphForm(BaseModel):
    """What `pebble.graph.Graph.to_json` writes."""

    name: Text = "graph"
    boundary: Amount | None = None
    ops: list[OpForm]
    values: list[ValueForm]
