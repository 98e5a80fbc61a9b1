"""What a step was made from: the record that a plan keeps, in memory and in its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pebble.errors import PlanFormatError
from pebble.options import Differentiate, StepOptions, checked_outputs
from pebble.schema import check_data

DEFAULT_LOSS = "default"
"""The model's own loss; without one, whatever the caller makes of its outputs."""


@dataclass(frozen=True)
class StepRecord:
    """What a training step was made from.

    Attributes
    ----------
    model : str
        Its class.
    device : str
    threads : int
    torch_version : str
    inputs : object
        Plain data: shapes, dtypes and what is no tensor.
    costs : str
        "given" if they were numbers.
    optimizer : str or None
    loss : str
        Name of the loss function, or "default".
    outputs : "all" or "loss"
    chunks : int
    accumulation_steps : int
    differentiate : "loss", "all", tuple of str or None
    calls_in_flight : int
    card : str or None
        The card that it was traced for without being on it.
    precision : str
        Such as "fp16" or "bf16-mixed".
    transformers_version : str or None
        Of the library that the model's code is from, if it is.
    kernels : mapping of str to int
        How many attentions each kernel computes.
    """

    model: str = "a graph"
    device: str = "cpu"
    threads: int = 1
    torch_version: str = ""
    inputs: Any = field(default=None, repr=False)
    costs: str = "auto"
    optimizer: str | None = None
    loss: str = DEFAULT_LOSS
    outputs: str = "all"
    chunks: int = 0
    accumulation_steps: int = 1
    differentiate: Differentiate = None
    calls_in_flight: int = 1
    card: str | None = None
    precision: str = ""
    transformers_version: str | None = None
    kernels: Mapping[str, int] = field(default_factory=dict)

    def made_with(self, options: StepOptions) -> StepRecord:
        """The same step made with other options."""
        return replace(
            self,
            costs=options.costs if isinstance(options.costs, str) else "given",
            optimizer=options.optimizer_name,
            loss=options.loss_name or DEFAULT_LOSS,
            outputs=options.outputs,
            chunks=options.chunks,
            accumulation_steps=options.accumulation_steps,
            differentiate=options.differentiate,
            calls_in_flight=options.calls_in_flight,
        )

    def options(
        self, *, loss: Callable[[Any], Any] | None, costs: str | Sequence[int]
    ) -> StepOptions:
        """The options to make this step again; what a file cannot hold is passed."""
        return StepOptions(
            optimizer=self.optimizer,
            loss=loss,
            costs=costs,
            outputs=self.outputs,
            chunks=self.chunks,
            accumulation_steps=self.accumulation_steps,
            differentiate=self.differentiate,
            calls_in_flight=self.calls_in_flight,
        )

    def to_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepRecord:
        """The record of a plan file; what an older file does not say has its default.

        Raises
        ------
        PlanFormatError
            If an entry has a type or a value that it cannot have.
        """
        check_data(data, _form, what="What the plan was made from", error=PlanFormatError)
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        return cls(**known | {"differentiate": checked_outputs(known.get("differentiate"))})


def _form() -> Any:
    from pebble.record_schema import RecordForm

    return RecordForm
