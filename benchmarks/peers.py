"""pebble beside its peers: measured peaks and recomputed FLOPs of one training step, in one run.

    python benchmarks/peers.py [--models llama_small,vit] [--time-limit 6]

Needs scipy for torch's ilp solver.

Peers, each measured under the same allocator trace on the same model and inputs:

* Hugging Face's gradient checkpointing of every layer, where the model has it;
* `torch.utils.checkpoint.checkpoint_sequential`, where the model is a sequence;
* torch's `activation_memory_budget` at ten ratios, with its dp and ilp knapsack solvers.

At each peak that a peer reaches, pebble plans with that very peak as its budget; its FLOPs are
those of its schedule's repeated ops, its peak is measured too. FLOPs are matrix products,
convolutions and attention, by the same formulas for everybody.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch._functorch.config as functorch_config
from models import ZOO, WithLoss
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.utils.flop_counter import FlopCounterMode

from pebble.errors import InfeasibleBudget
from pebble.formatting import table
from pebble.measure.allocator import trace_memory
from pebble.measure.flops import work_of
from pebble.measure.step import Step, trace_step
from pebble.plan.optimization import plan_step
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve

RATIOS = tuple(k / 10 for k in range(10))
TORCH_SOLVERS = ("dp", "ilp")
MODELS = ",".join(ZOO)
RESULTS = Path(__file__).parent / "results" / "peers.json"


def _attention(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    (*batch, queries, width), keys, out = q, k[-2], v[-1]
    return 2 * math.prod(batch) * queries * keys * (width + out)


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    (*batch, queries, width), keys, out = q, k[-2], v[-1]
    return 2 * math.prod(batch) * queries * keys * (3 * width + 2 * out)


def _convolution(x: Any, w: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    transposed = args[4]
    return 2 * math.prod(w[1:]) * math.prod(x if transposed else out_shape)


def _convolution_backward(grad: Any, x: Any, w: Any, *args: Any, **kwargs: Any) -> int:
    transposed, mask = args[4], args[7]
    one = 2 * math.prod(w[1:]) * math.prod(x if transposed else grad)
    return one * (bool(mask[0]) + bool(mask[1]))


# What torch's counter of eager mode lacks (the CPU's flash attention) or overcounts (grouped
# convolutions); the graphs are counted by the same formulas, in pebble.measure.flops.
EAGER_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten.convolution_backward: _convolution_backward,
}


def loss_of(output: Any) -> torch.Tensor:
    """The scalar loss."""
    return getattr(output, "loss", output)


def step_peak(model: nn.Module, inputs: dict[str, Any]) -> int:
    """Measured peak of forward and backward beyond what is there before, in bytes."""

    def step() -> Any:
        output = model(**inputs)
        loss_of(output).backward()
        return output

    step()  # compile, and warm up the kernels
    model.zero_grad(set_to_none=True)
    return trace_memory(step).peak


def step_flops(model: nn.Module, inputs: dict[str, Any]) -> int:
    """FLOPs of forward and backward in eager mode, repeated ones included."""
    model.zero_grad(set_to_none=True)
    with FlopCounterMode(display=False, custom_mapping=EAGER_FORMULAS) as counter:
        loss_of(model(**inputs)).backward()
    return int(counter.get_total_flops())


# -- the peers -----------------------------------------------------------------------------------


def hugging_face(name: str) -> dict[str, Any] | None:
    """Checkpointing of every layer, as `gradient_checkpointing_enable` does it."""
    model, inputs = ZOO[name]()
    if not getattr(model, "supports_gradient_checkpointing", False):
        return None
    plain = step_flops(model, inputs)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    flops = step_flops(model, inputs)
    return {"peer": "hf checkpointing", "peak": step_peak(model, inputs), "flops": flops - plain}


def sequential(name: str) -> dict[str, Any] | None:
    """`checkpoint_sequential` over the square root of the number of layers."""
    model, inputs = ZOO[name]()
    body = getattr(model, "body", None)
    if not isinstance(model, WithLoss) or not isinstance(body, nn.Sequential):
        return None
    plain = step_flops(model, inputs)

    class Checkpointed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            segments = max(round(len(body) ** 0.5), 1)
            return torch.utils.checkpoint.checkpoint_sequential(
                body, segments, x, use_reentrant=False
            )

    checked = WithLoss(Checkpointed(), model.loss)
    body.train()
    return {
        "peer": "checkpoint_sequential",
        "peak": step_peak(checked, inputs),
        "flops": step_flops(checked, inputs) - plain,
    }


def graph_flops(gm: torch.fx.GraphModule) -> int:
    """FLOPs of all nodes of a graph."""
    return sum(node_flops(node) for node in gm.graph.nodes if node.op == "call_function")


def node_flops(node: torch.fx.Node) -> int:
    """Matrix products, convolutions and attention; 0 for everything else."""
    if "val" not in node.meta or not isinstance(node.target, torch._ops.OpOverload):
        return 0
    work = work_of(node)
    return work.flops if work.dense else 0


def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> Any:
    if not training:
        return NotImplemented
    aten = torch.ops.aten
    out, now, inverse = aten._native_batch_norm_legit.no_stats(x, weight, bias, True, momentum, eps)
    count = x.numel() / x.shape[1]
    spread = (inverse**-2 - eps) * (count / (count - 1))
    return out, now, inverse, mean.lerp(now, momentum), var.lerp(spread, momentum)


def _batch_norm_backward(grad: Any, x: Any, weight: Any, mean: Any, var: Any, *rest: Any) -> Any:
    training = rest[2]
    if not training or mean is None:
        return NotImplemented
    return torch.ops.aten.native_batch_norm_backward(grad, x, weight, None, None, *rest)


# In training a batch norm's output and backward read no running statistics. Without this torch
# saves them to run the op again, and then refuses, because the forward has changed them in place.
DECOMPOSITIONS = {
    torch.ops.aten._native_batch_norm_legit_functional.default: _batch_norm,
    torch.ops.aten.native_batch_norm_backward.default: _batch_norm_backward,
}


def torch_budget(name: str, ratio: float, solver: str, plain: int) -> dict[str, Any]:
    """`activation_memory_budget` through torch.compile, without fusing kernels."""
    model, inputs = ZOO[name]()
    counted: list[int] = []

    def count(gm: torch.fx.GraphModule, example: Any) -> Callable[..., Any]:
        counted.append(graph_flops(gm))
        from torch._functorch.aot_autograd import make_boxed_func

        return make_boxed_func(gm.forward)

    torch._dynamo.reset()
    backend = aot_autograd(
        fw_compiler=count,
        bw_compiler=count,
        partition_fn=min_cut_rematerialization_partition,
        decompositions=DECOMPOSITIONS,
    )
    settings = {"activation_memory_budget": ratio, "activation_memory_budget_solver": solver}
    try:
        with functorch_config.patch(settings):
            compiled = torch.compile(model, backend=backend)
            loss_of(compiled(**inputs)).backward()
            flops = sum(counted)  # a later recompilation counts nothing anew
            model.zero_grad(set_to_none=True)
            peak = step_peak(compiled, inputs)
    except Exception as error:  # what a peer cannot do is a row, not a crash of the table
        return {
            "peer": f"torch {solver} {ratio}",
            "failed": f"{type(error).__name__}: {error}"[:200],
        }
    return {"peer": f"torch {solver} {ratio}", "peak": peak, "flops": flops - plain}


# -- pebble --------------------------------------------------------------------------------------


def flops_of(plan_schedule: Schedule, flops: list[int]) -> int:
    """FLOPs of the repeated executions."""
    return sum(
        (int(n) - 1) * f for n, f in zip(plan_schedule.executions(len(flops)), flops) if n > 1
    )


def ours(
    step: Step, peak: int, known: Schedule | None, flops: list[int], time_limit: float
) -> tuple[dict[str, Any], Schedule | None]:
    """A plan whose measured peak is at most `peak` bytes beyond what is there before the step."""
    budget = step.resident.total + peak
    try:
        plan = plan_step(step, budget, time_limit=time_limit, start=known)
    except InfeasibleBudget as error:
        return {"pebble": None, "reason": str(error)}, known
    checked = plan.validate(repeats=1)
    row = {
        "pebble": flops_of(plan.schedule, flops),
        "pebble_peak": checked.measured_peak_bytes - step.resident.total,
        "overhead": plan.overhead,
        "bitwise": checked.ok_bitwise,
    }
    return row, plan.schedule


def flop_costs(step: Step, flops: list[int]) -> list[int]:
    """What is compared here, FLOPs, plus a little for the bytes that an op moves."""
    size = step.graph.arrays.size
    moved = [sum(int(size[v]) for v in (*op.inputs, *op.outputs)) for op in step.graph.ops]
    return [f + m // 8 for f, m in zip(flops, moved)]


def run_model(name: str, time_limit: float) -> dict[str, Any]:
    """All rows of one model, from the lowest peak to the highest."""
    model, inputs = ZOO[name]()
    step = trace_step(model, inputs, optimizer=None, costs="flops")
    flops = [node_flops(nodes[0]) if nodes else 0 for nodes in step.captured.op_nodes]
    step = replace(step, graph=step.graph.with_measures(costs=flop_costs(step, flops)))
    peers = [hugging_face(name), sequential(name)]
    plain = sum(flops)
    peers += [torch_budget(name, r, solver, plain) for solver in TORCH_SOLVERS for r in RATIOS]
    rows = sorted((p for p in peers if p and "peak" in p), key=lambda p: p["peak"])
    known: Schedule | None = None
    solved: dict[int, dict[str, Any]] = {}
    for row in rows:  # peers often land on the same peak
        if row["peak"] not in solved:
            solved[row["peak"]], known = ours(step, row["peak"], known, flops, time_limit)
        row |= solved[row["peak"]]
    least = solve_least(step, time_limit)
    return {
        "model": name,
        "flops": sum(flops),
        "least_peak": least,
        "rows": rows,
        "failed": [p for p in peers if p and "failed" in p],
    }


def solve_least(step: Step, time_limit: float) -> int:
    """The least peak pebble reaches, beyond what is there before the step."""
    keep = Schedule.keep_all(step.graph)
    top = Problem(step.graph, simulate(step.graph, keep).peak, Objective.PEAK)
    result = solve(top, "minpeak", time_limit=2 * time_limit)
    return simulate(step.graph, result.schedule or keep).peak


def show(result: dict[str, Any]) -> str:
    """The table of one model."""
    header = ["peer", "peak MB", "extra GFLOP", "pebble peak MB", "pebble extra GFLOP", "ratio"]
    rows = []
    for row in result["rows"]:
        ours = row.get("pebble")
        ratio = "-" if ours is None or not row["flops"] else f"{ours / row['flops']:.2f}"
        rows.append(
            [
                row["peer"],
                f"{row['peak'] / 1e6:.2f}",
                f"{row['flops'] / 1e9:.4f}",
                "-" if ours is None else f"{row['pebble_peak'] / 1e6:.2f}",
                "-" if ours is None else f"{ours / 1e9:.4f}",
                ratio,
            ]
        )
    return (
        f"\n{result['model']}: {result['flops'] / 1e9:.3f} GFLOP a step, least peak of pebble "
        f"{result['least_peak'] / 1e6:.2f} MB\n{table(header, rows)}"
    )


def verdict(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that the comparison is about."""
    beaten, ratios = [], []
    for result in results:
        for row in result["rows"]:
            if row.get("pebble") is None or row["pebble"] > row["flops"]:
                beaten.append(f"{result['model']}: {row['peer']}")
            if row["peer"] == "hf checkpointing" and row.get("pebble") is not None and row["flops"]:
                ratios.append(row["pebble"] / row["flops"])
    lower = sum(r["least_peak"] < min(x["peak"] for x in r["rows"]) for r in results if r["rows"])
    return {
        "peers_with_fewer_flops": beaten,
        "models_where_pebble_reaches_the_lowest_peak": f"{lower} of {len(results)}",
        "mean_ratio_at_hf_peak": sum(ratios) / len(ratios) if ratios else None,
        "worst_ratio_at_hf_peak": max(ratios, default=None),
    }


def kept_results(path: Path, again: list[str]) -> list[dict[str, Any]]:
    """Models of an earlier run that are not run again."""
    if not path.exists():
        return []
    return [r for r in json.loads(path.read_text())["models"] if r["model"] not in again]


def save(results: list[dict[str, Any]], path: Path) -> None:
    """Write what is there so far."""
    path.parent.mkdir(exist_ok=True)
    data = {
        "command": "python benchmarks/peers.py",
        "date": str(date.today()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "summary": verdict(results),
        "models": results,
    }
    path.write_text(json.dumps(data, indent=1))


def main() -> int:
    """Run the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=MODELS, help="comma-separated")
    parser.add_argument("--time-limit", type=float, default=6.0)
    parser.add_argument("--add", action="store_true", help="keep the other models' results")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    results = kept_results(args.output, args.models.split(",")) if args.add else []
    for name in args.models.split(","):
        results.append(run_model(name, args.time_limit))
        print(show(results[-1]), flush=True)
        save(results, args.output)
    for result in results:
        for row in result["failed"]:
            print(f"{result['model']}: {row['peer']} failed: {row['failed']}")
    summary = verdict(results)
    print("\n" + "\n".join(f"{key}: {value}" for key, value in summary.items()))
    return int(bool(summary["peers_with_fewer_flops"]))


if __name__ == "__main__":
    sys.exit(main())
