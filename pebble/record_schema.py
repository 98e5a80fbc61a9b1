"""The form of a step's record in a plan file. Loads pydantic: imported where data come in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue

from pebble.cards import CARDS
from pebble.graph_schema import Amount, Text

Count = Annotated[int, Field(strict=True, ge=1, le=2**31)]
_A_CARD = f"^({'|'.join(CARDS)})$"


class RecordForm(BaseModel):
    """What `pebble.record.StepRecord.to_json` writes; what is left out has its default."""

    model: Text = ""
    device: Text = ""
    threads: Count = 1
    torch_version: Text = ""
    inputs: JsonValue = None
    costs: Text = ""
    optimizer: Text | None = None
    loss: Text = ""
    outputs: Literal["all", "loss"] = "all"
    chunks: Annotated[int, Field(strict=True, ge=0, le=2**31)] = 0
    accumulation_steps: Count = 1
    calls_in_flight: Count = 1
    differentiate: Literal["loss", "all"] | Annotated[list[Text], Field(min_length=1)] | None = None
    card: Annotated[str, Field(strict=True, pattern=_A_CARD)] | None = None
    precision: Text = ""
    transformers_version: Text | None = None
    kernels: dict[Text, Amount] = {}


class TensorForm(BaseModel):
    """A tensor among the recorded inputs."""

    tensor: list[Amount]
    dtype: Text
    stride: list[Amount]
    requires_grad: Annotated[bool, Field(strict=True)]
