"""The form of a family's data. Loads pydantic, so it is imported where data come in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pebble.graph_schema import Amount, Closed, Text
from pebble.plan.plan_schema import CapForm
from pebble.wiring import LARGEST_TOTAL

Ratio = Annotated[str, Field(pattern=r"^-?\d{1,40}(/[1-9]\d{0,20})?$")]
Exponent = Annotated[int, Field(strict=True, ge=0, le=2)]
Most = Annotated[int, Field(strict=True, ge=0, le=2**31)]


class PolynomialsForm(Closed):
    """Numbers, each one of a few polynomials."""

    which: list[Amount]
    coefficients: list[list[Ratio]]


class SizedStepForm(Closed):
    """A step of any shape; the graph has a form of its own."""

    graph: dict[str, Any]
    kinds: list[Text]
    powers: Annotated[list[tuple[Exponent, Exponent]], Field(min_length=1, max_length=9)]
    sizes: PolynomialsForm
    workspaces: PolynomialsForm
    costs: PolynomialsForm
    resident: PolynomialsForm
    bounded: Amount


class FamilyForm(BaseModel):
    """What `pebble.plan.families.family.Family.to_json` writes."""

    level: Literal["family"]
    budget_bytes: Annotated[int, Field(strict=True, ge=1, le=LARGEST_TOTAL)]
    lengths: tuple[Most, Most]
    batches: tuple[Annotated[Most, Field(ge=1)], Most]
    schedules: Annotated[list[list[Amount]], Field(min_length=1, max_length=64)]
    cap: CapForm
    origin: dict[str, Any]
    step: SizedStepForm
