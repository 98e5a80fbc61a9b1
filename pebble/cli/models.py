"""Commands that plan models: `demo`, `fit` and `optimize`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pebble.budget import whole_budget
from pebble.cards import CARDS, NO_CARD, chosen_card, half_precision
from pebble.cli.arguments import (
    NOT_SOLVED,
    SOLVED,
    add_effort,
    add_solving,
    chunks_of,
    count,
    optimizer_of,
)
from pebble.options import LORA_RANK, METHODS, OUTPUTS
from pebble.plan.optimization import optimize
from pebble.progress import progress_line
from pebble.textfile import check_folder


def add_demo(commands: Any) -> None:
    """Add the command ``demo``."""
    parser = commands.add_parser("demo", help="plan, apply and measure a small GPT-2")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    from pebble.cli.demo import run_demo

    with progress_line(False if args.json else None, "demo") as line:
        report = run_demo(progress=line.part)
        line.result("everything as promised" if report.ok else "NOT as promised")
    print(json.dumps(report.data()) if args.json else str(report))
    return SOLVED if report.ok else NOT_SOLVED


def _add_card(parser: argparse.ArgumentParser, *former: str) -> None:
    parser.add_argument(
        "--card", *former, choices=(*CARDS, NO_CARD),
        help="whose kernels and speed are planned for (default: the smallest card with the "
        "budget); cpu: the CPU's kernels",
    )  # fmt: skip


def _add_seq_len(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seq-len", type=count, default=None, metavar="N",
        help="tokens of a sample (default: the longest the model takes, at most 1024)",
    )  # fmt: skip


def _add_lora_rank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lora-rank", type=count, default=LORA_RANK, metavar="R",
        help="of the adapters (default: %(default)s)",
    )  # fmt: skip


def add_fit(commands: Any) -> None:
    """Add the command ``fit``."""
    parser = commands.add_parser(
        "fit",
        help="the fastest recipe that fine-tunes a model on a card",
        description="Plans on fake tensors: nothing is allocated, no GPU is touched.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="a named shape such as llama-7b")
    which.add_argument("--config", metavar="FILE", help="a Hugging Face config.json")
    parser.add_argument(
        "--method", default="lora", choices=METHODS, help="what is trained (default: lora)"
    )
    parser.add_argument(
        "--budget-gb", type=float, default=15.0, metavar="GB",
        help="for the whole step (default: %(default)g)",
    )  # fmt: skip
    _add_seq_len(parser)
    parser.add_argument(
        "--effective-batch-size", "--batch", type=count, default=32, metavar="N",
        help="samples before each optimizer step (default: 32)",
    )  # fmt: skip
    parser.add_argument("--devices", type=count, default=1, help="cards (default: 1)")
    parser.add_argument(
        "--precision",
        help="fp32, bf16, fp16, bf16-mixed or fp16-mixed (default: bf16, on a card without units "
        "for it fp16)",
    )  # fmt: skip
    parser.add_argument("--optimizer", default="adamw", help="names, or 'none' (default: adamw)")
    parser.add_argument("--quantize", choices=("int8", "4bit", "4bit-double"))
    _add_lora_rank(parser)
    _add_card(parser, "--gpu")
    add_effort(parser, time_limit=40.0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_fit)


def _fit(args: argparse.Namespace) -> int:
    from pebble.finetune.card_fit import fit

    names = args.optimizer.split(",")
    answer = fit(
        args.model or args.config,
        method=args.method,
        budget_gb=args.budget_gb,
        seq_len=args.seq_len,
        effective_batch_size=args.effective_batch_size,
        devices=args.devices,
        precision=args.precision,
        optimizers=[optimizer_of(name) for name in names],
        quantize=args.quantize,
        lora_rank=args.lora_rank,
        card=args.card,
        time_limit=args.time_limit,
        seed=args.seed,
    )
    print(json.dumps(answer.data()) if args.json else answer)
    return SOLVED


def add_optimize(commands: Any) -> None:
    """Add the command ``optimize``."""
    parser = commands.add_parser(
        "optimize",
        help="plan the training step of a named shape or a Hugging Face configuration",
        description="Plans on fake tensors: nothing is allocated, no GPU is touched.",
    )
    parser.add_argument(
        "model", help="a named shape such as llama-7b, or the path of a config.json"
    )
    parser.add_argument("--budget-gb", type=float, required=True, metavar="GB")
    parser.add_argument(
        "--batch-size", type=count, default=1, help="samples of a micro-batch (default: 1)"
    )
    _add_seq_len(parser)
    parser.add_argument(
        "--precision", "--dtype", choices=("fp32", "bf16", "fp16"),
        help="of the weights (default: bf16, on a card without units for it fp16)",
    )  # fmt: skip
    _add_card(parser)
    parser.add_argument("--optimizer", default="adamw", help="or 'none' (default: adamw)")
    parser.add_argument(
        "--method", default="full", choices=("full", "lora"), help="what is trained (default: full)"
    )
    _add_lora_rank(parser)
    parser.add_argument(
        "--outputs", default="all", choices=OUTPUTS,
        help="loss: the step returns its loss alone, and holds no logits for it",
    )  # fmt: skip
    parser.add_argument(
        "--accumulation-steps", type=count, default=1, metavar="N", help="micro-batches a step"
    )
    parser.add_argument(
        "--chunked-loss", type=chunks_of, default="auto", metavar="CHUNKS",
        help="into how many chunks the loss of a language model is split, 0 for none (default: "
        "auto, only if no plan fits otherwise)",
    )  # fmt: skip
    parser.add_argument("--costs", default="auto", help="flops, roofline:<device> (default: auto)")
    parser.add_argument("--output", metavar="FILE", help="where to write the plan")
    add_solving(parser)
    parser.set_defaults(run=_optimize)


def _optimize(args: argparse.Namespace) -> int:
    from pebble.finetune.named_models import build_shape

    if args.output:
        check_folder(args.output, what="The plan")
    card = chosen_card(args.card, whole_budget(args.budget_gb, None))
    model, inputs = build_shape(
        args.model,
        precision=args.precision or half_precision(card),
        batch_size=args.batch_size,
        seq_len=args.seq_len,
        lora_rank=args.lora_rank if args.method == "lora" else None,
    )
    plan = optimize(
        model,
        inputs,
        budget_gb=args.budget_gb,
        optimizer=optimizer_of(args.optimizer),
        solver=args.solver,
        time_limit=args.time_limit,
        costs=args.costs,
        seed=args.seed,
        outputs=args.outputs,
        chunked_loss=args.chunked_loss,
        accumulation_steps=args.accumulation_steps,
        display=args.display,
        card=card,
    )
    if args.output:
        plan.save(args.output)
    print(json.dumps(plan.to_json(), default=str) if args.json else plan)
    return SOLVED
