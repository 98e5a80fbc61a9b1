"""`fit`: whether a named model can be fine-tuned on a card, with what recipe, in one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pebble.arguments import one_of, renamed
from pebble.budget import whole_budget
from pebble.cards import (
    CARDS,
    Card,
    card_for,
    chosen_card,
    half_precision,
    name_of,
)
from pebble.errors import InfeasibleBudget
from pebble.finetune.card_room import CardRoom
from pebble.finetune.lora import LORA_TARGETS
from pebble.finetune.named_models import build_shape
from pebble.finetune.recipes import HALVES, Recommendation
from pebble.finetune.recommendations import recommend
from pebble.formatting import Printed, gigabytes, table
from pebble.options import LORA_RANK, METHODS

_PACKED = "4bit-double"
# What people call the kinds of `Plan.memory`; kinds not named here count as activations.
_LINES = {
    "gradients": "gradients",
    "accumulated gradients": "gradients",
    "gradient buckets": "gradients",
    "gradients and optimizer step": "gradients and optimizer step",
    "optimizer state": "optimizer",
    "inputs": "inputs and buffers",
    "buffers": "inputs and buffers",
    "constants": "inputs and buffers",
    "library workspace": "cuBLAS",
    "rounding": "rounding",
    "fragmentation": "fragmentation",
}


@dataclass(frozen=True, repr=False)
class Fit(Printed):
    """The answer for one model, method and budget.

    Attributes
    ----------
    title : str
    recommendation : Recommendation
    checklist : tuple of (str, int)
        Bytes by kind at the peak of the best recipe.
    plain_checklist : tuple of (str, int)
        The same without a plan, of the leanest choice: the smallest micro-batch.
    room : CardRoom
        What the card leaves to it.
    verdicts : tuple of (Card, str)
    model_code : str
        Lines that make the model.
    """

    title: str
    recommendation: Recommendation
    checklist: tuple[tuple[str, int], ...]
    plain_checklist: tuple[tuple[str, int], ...]
    room: CardRoom
    verdicts: tuple[tuple[Card, str], ...]
    model_code: str

    @property
    def code(self) -> str:
        """The best recipe as Python."""
        inputs = 'inputs = {"input_ids": ids, "labels": ids}'
        return self.recommendation.best.code(self.model_code, inputs)

    def __str__(self) -> str:
        plan = self.recommendation.plan
        cards = [[card.title, f"{card.memory_gb:g} GB", verdict] for card, verdict in self.verdicts]
        parts = [
            self.title,
            self._memory_table(),
            str(self.room),
            plan.figures.kernels_text,
            plan.card_text,
            table(["card", "memory", "micro-batch 1"], cards),
            str(self.recommendation),
            self.code,
        ]
        return "\n\n".join(part for part in parts if part)

    def _memory_table(self) -> str:
        recipe, plain = dict(self.checklist), dict(self.plain_checklist)
        columns = recipe, plain
        rows = [
            [kind, *(gigabytes(column[kind]) if kind in column else "-" for column in columns)]
            for kind in {**recipe, **plain}
        ]
        rows.append(["total", *(gigabytes(sum(column.values())) for column in columns)])
        header = ["at the peak", "of the recipe", "of micro-batch 1 without a plan"]
        return table(header, rows)

    def data(self) -> dict[str, Any]:
        """The answer as plain data."""
        best = self.recommendation.best
        return {
            "title": self.title,
            "budget_bytes": best.budget_bytes,
            "peak_bytes": best.peak_bytes,
            "held_bytes": self.recommendation.plan.held_bytes,
            "card": self.recommendation.plan.record.card,
            "kernels": dict(self.recommendation.plan.record.kernels),
            "memory": dict(self.checklist),
            "memory_without_a_plan": dict(self.plain_checklist),
            "room": dict(self.room.rows()),
            "micro_batch": best.choice.micro_batch,
            "accumulation_steps": best.accumulation_steps,
            "devices": best.devices,
            "precision": best.choice.precision,
            "optimizer": best.choice.optimizer,
            "quantize": best.choice.quantize,
            "chunks": best.choice.chunks,
            "overhead": best.overhead,
            "seconds": best.seconds,
            "seconds_per_sample": best.seconds_per_sample,
            "clock": self.recommendation.clock,
            "cards": {card.title: verdict for card, verdict in self.verdicts},
            "code": self.code,
        }


@renamed(batch="effective_batch_size", gpu="card")
def fit(
    model: str,
    *,
    method: str = "lora",
    budget_gb: float = 15.0,
    seq_len: int | None = None,
    effective_batch_size: int = 32,
    devices: int = 1,
    precision: str | None = None,
    optimizers: Sequence[str | None] = ("adamw",),
    quantize: str | None = None,
    lora_rank: int = LORA_RANK,
    card: str | None = None,
    time_limit: float = 40.0,
    seed: int = 0,
    display: bool | None = None,
) -> Fit:
    """Whether and how a named model trains within a budget; nothing is allocated.

    Parameters
    ----------
    model : str
        A key of `pebble.shapes.SHAPES`, or the path of a Hugging Face ``config.json``.
    method : "full", "lora" or "qlora"
        "qlora": adapters on frozen weights in 4 bits with double quantisation.
    budget_gb : float
        Of one card, without what torch's allocator never sees. Recipes leave a margin below it, and
        below what the card has.
    seq_len : int, optional
    devices, effective_batch_size, optimizers, time_limit, seed, display
        As in `pebble.recommend`.
    precision : str, optional
        Default: "bf16", or "fp16" on a card without bf16 units.
    quantize : str, optional
        Storage of the frozen weights, in place of what the method says.
    lora_rank : int
    card : str, optional
        Whose kernels and speed the recipes have; default: the smallest that has the budget. "cpu":
        the kernels of the CPU, at that card's speed.

    Raises
    ------
    InfeasibleBudget, InvalidArgument
    """
    one_of("method", method, METHODS)
    budget = whole_budget(budget_gb, None)
    traced_for = chosen_card(card, budget)
    speed = CARDS[traced_for] if traced_for else card_for(budget)
    room = CardRoom.of(speed, budget, asked_for=traced_for is not None and card is not None)
    chosen = precision or half_precision(name_of(speed))
    form = quantize or (_PACKED if method == "qlora" else None)

    def make(precision: str) -> Any:
        rank = None if method == "full" else lora_rank
        return build_shape(model, precision=precision, lora_rank=rank)[0]

    try:
        advice = recommend(
            make,
            budget_bytes=room.planned_bytes,
            effective_batch_size=effective_batch_size,
            devices=devices,
            precisions=(chosen,),
            optimizers=optimizers,
            quantize=(form,),
            costs=f"roofline:{speed.device}",
            card=traced_for,
            seq_len=seq_len,
            time_limit=time_limit,
            seed=seed,
            display=display,
        )
    except InfeasibleBudget as error:
        raise _with_margin(error, room) from None
    how = method if method == "full" else f"{method} of rank {lora_rank}"
    length = "" if seq_len is None else f", {seq_len} tokens"
    return Fit(
        title=f"{Path(model).name}, {how}{length}, effective batch {effective_batch_size}, "
        f"{budget_gb:g} GB",
        recommendation=advice,
        checklist=_checklist(advice, advice.plan.memory, method),
        plain_checklist=_checklist(advice, advice.plain_memory, method),
        room=room,
        verdicts=tuple((card, _verdict(card, advice)) for card in CARDS.values()),
        model_code=_model_code(model, method, chosen, form, lora_rank),
    )


def _with_margin(error: InfeasibleBudget, room: CardRoom) -> InfeasibleBudget:
    told = f"{error} {gigabytes(room.margin_bytes)} of the budget are kept back as a margin."
    return InfeasibleBudget(told, budget_bytes=room.allowed_bytes, least_bytes=error.least_bytes)


def _checklist(
    advice: Recommendation, memory: Mapping[str, int], method: str
) -> tuple[tuple[str, int], ...]:
    """The kinds people know, of a peak."""
    step = advice.plan.step
    assert step is not None
    trained = [p for p in step.model.parameters() if p.requires_grad]
    adapters = 0 if method == "full" else sum(p.numel() * p.itemsize for p in trained)
    lines = {"base weights": memory["parameters"] - adapters, "adapters": adapters}
    for kind, size in memory.items():
        if kind != "parameters":
            line = _LINES.get(kind, "activations")
            lines[line] = lines.get(line, 0) + size
    return tuple((line, size) for line, size in lines.items() if size)


def _verdict(card: Card, advice: Recommendation) -> str:
    if advice.plain_bytes <= card.usable_bytes:
        return f"fits without a plan ({gigabytes(advice.plain_bytes)})"
    if advice.least_bytes <= card.usable_bytes:
        return f"fits with a plan ({gigabytes(advice.least_bytes)} at the least)"
    return f"does not fit ({gigabytes(advice.least_bytes)} at the least)"


def _model_code(name: str, method: str, precision: str, form: str | None, rank: int) -> str:
    half, _, mixed = precision.partition("-")
    dtype = f"torch.{HALVES.get(half, 'float32')}" if not mixed else "torch.float32"
    packing = {
        "int8": "BitsAndBytesConfig(load_in_8bit=True)",
        "4bit": f'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", '
        f"bnb_4bit_compute_dtype={dtype})",
        "4bit-double": f'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", '
        f"bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype={dtype})",
    }
    packed = f", quantization_config={packing[form]}" if form in packing else ""
    load = f"model = AutoModel....from_pretrained(...{packed}, dtype={dtype})"
    if method == "full":
        return load
    targets = ", ".join(repr(t) for t in LORA_TARGETS[:2])
    return (
        f"{load}\nmodel = get_peft_model(model, LoraConfig(r={rank}, target_modules=[{targets}]))"
    )
