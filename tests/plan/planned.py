"""A small plan that recomputes, shared by the tests of what is shown of a plan."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

import pebble
from pebble.budget import proved_peak_lower_bound
from pebble.plan.plan import Plan


class Tower(nn.Module):
    """Layers that are alike, and a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(24, 24), nn.GELU()) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x.square().mean()


@cache
def tower_plan() -> Plan:
    """Half-way between the floor and what the step takes without a plan."""
    torch.manual_seed(0)
    model, x = Tower(), torch.randn(96, 24)
    asked = {"optimizer": "adamw", "costs": "flops", "check": False}
    top = pebble.optimize(model, x, budget_gb=1, solver="keep_all", **asked)  # type: ignore[arg-type]
    assert isinstance(top, Plan)
    budget = (proved_peak_lower_bound(top.footprint) + top.peak_bytes) // 2
    plan = pebble.optimize(model, x, budget_bytes=budget, solver="greedy", **asked)  # type: ignore[arg-type]
    assert isinstance(plan, Plan)
    assert plan.recomputed
    return plan
