"""Steps of a model in every precision, at every micro-batch, with every optimizer and storage."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from torch import nn

from pebble.cards import CARDS, card_for
from pebble.errors import InvalidArgument
from pebble.finetune.recipes import Choice
from pebble.finetune.steps_by_batch import Batches
from pebble.finetune.variants import with_optimizer, with_quantised
from pebble.measure.costs import DEVICES
from pebble.measure.dtypes import DTYPES

CHUNKS = 8
"""Parts of head and loss that are tried where nobody says how many."""


class Families:
    """Steps of every precision at every micro-batch, each precision traced once."""

    def __init__(
        self,
        make_model: Callable[..., nn.Module],
        make_inputs: Any,
        budget: int,
        costs: str,
        loss: Any,
        seq_len: int | None,
        chunked: str | int | bool,
        card: str | None = None,
    ) -> None:
        if not callable(make_model) or isinstance(make_model, nn.Module):
            raise InvalidArgument(
                f"make_model is a {type(make_model).__name__}; pass a function that makes the "
                "model, such as lambda: model."
            )
        self.make_model, self.make_inputs = make_model, make_inputs
        self.takes_precision = "precision" in inspect.signature(make_model).parameters
        self.budget, self.costs, self.loss, self.seq_len = budget, costs, loss, seq_len
        self.chunked, self.card = chunked, card
        self.clock = ""
        self._whole: dict[str, Batches] = {}
        self._made: dict[str, nn.Module] = {}
        self._split: dict[tuple[str, int], Batches | None] = {}

    def choices(
        self,
        micro_batches: Sequence[int],
        precisions: Sequence[str] | None,
        optimizers: list[str | None],
        formats: list[str | None],
    ) -> list[Choice]:
        """All choices, larger micro-batches first."""
        names = precisions or [self._own_precision()]
        found = []
        for precision, form, optimizer in product(names, formats, optimizers):
            for chunks in self.chunk_counts(precision):
                for micro in sorted(micro_batches, reverse=True):
                    found.append(Choice(micro, precision, optimizer, form, chunks))
        return found

    def chunk_counts(self, precision: str) -> list[int]:
        """Into how many parts the loss may be split; 0 is the loss in one piece."""
        if self.chunked is False:
            return [0]
        if self.chunked != "auto":
            return [int(self.chunked)]
        possible = self.family(precision, CHUNKS) is not None
        return [0, CHUNKS] if possible else [0]

    def of(self, choice: Choice) -> Batches:
        """The steps of a choice, with its optimizer and weights."""
        batches = self.family(choice.precision, choice.chunks)
        if batches is None:
            raise InvalidArgument(f"The loss cannot be split into {choice.chunks} chunks.")
        batches = batches.changed(lambda step: with_optimizer(step, choice.optimizer))
        form = choice.quantize
        return batches if form is None else batches.changed(lambda step: with_quantised(step, form))

    def family(self, precision: str, chunks: int) -> Batches | None:
        """The steps of a precision; None where the loss cannot be split so."""
        if precision not in self._whole:
            self._whole[precision] = self._trace(precision)
        if not chunks:
            return self._whole[precision]
        if (precision, chunks) not in self._split:
            try:
                split: Batches | None = self._whole[precision].chunked(chunks)
            except InvalidArgument:
                if self.chunked != "auto":
                    raise
                split = None
            self._split[precision, chunks] = split
        return self._split[precision, chunks]

    def _trace(self, precision: str) -> Batches:
        half, _, mixed = precision.partition("-")
        model = self._model("fp32" if mixed else precision)
        batches = Batches(
            model,
            self.make_inputs,
            seq_len=self.seq_len,
            autocast=half if mixed else None,
            loss=self.loss,
            optimizer=None,
            costs=self._clock(model),
            card=self.card,
        )
        if not batches.fake:
            for batch in (2, 4):
                batches.exact(batch)
        return batches

    def _model(self, dtype: str) -> nn.Module:
        if dtype not in self._made:
            model = self.make_model(precision=dtype) if self.takes_precision else self.make_model()
            found = _dtype_name(model)
            if found != dtype and not (self.takes_precision and found is None):
                raise InvalidArgument(
                    f"make_model makes a model in {found}, not in {dtype}; give it a parameter "
                    "'precision', or leave precisions= out."
                )
            self._made[dtype] = model
        return self._made[dtype]

    def _own_precision(self) -> str:
        if self.takes_precision:
            return "bf16"
        model = self.make_model()
        name = _dtype_name(model)
        if name is None:
            raise InvalidArgument(
                "The model's weights are of several dtypes, or of none of fp32, bf16 and fp16; "
                "pass precisions= and a make_model that takes 'precision'."
            )
        self._made[name] = model
        return name

    def _clock(self, model: nn.Module) -> str:
        """What costs are the costs of."""
        fake = hasattr(next(iter(model.parameters()), None), "fake_mode")
        costs = self.costs
        if costs == "auto" and self.card is not None:
            costs = f"roofline:{CARDS[self.card].device}"
        elif costs == "auto" and fake:
            costs = f"roofline:{card_for(self.budget).device}"
        name = costs.removeprefix("roofline:")
        titles = {card.device: card.title for card in CARDS.values()}
        self.clock = (
            f"roofline of {titles.get(name, name)}" if name in DEVICES else f"costs {costs!r}"
        )
        return costs


def _dtype_name(model: nn.Module) -> str | None:
    """Name of the dtype that most of the model's floating-point parameters have."""
    floats = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return next((name for name, dtype in DTYPES.items() if floats == {dtype}), None)
