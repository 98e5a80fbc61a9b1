"""Checks that a forward makes of its numbers stay in the step, and the step is planned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pebble.tracing import Captured
from tests.tracing.asserting import checked
from tests.tracing.capturing import Function, X, agree

# torch 2.11 itself traces none of them.
ONE_HOT_CHECKS = 0 if torch.__version__.startswith("2.11.") else 2


class InverseInBackward(torch.autograd.Function):
    """Its check of a singular matrix belongs to the backward half."""

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(matrix)
        return matrix * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (matrix,) = ctx.saved_tensors
        return torch.linalg.inv(square(matrix)) @ gradient


def square(z: torch.Tensor) -> torch.Tensor:
    """A matrix that every linear solver takes."""
    return z @ z.mT + 3 * torch.eye(4)


def checks_of(captured: Captured) -> list[int]:
    """The ops that make no tensor."""
    first = [(i, nodes[0]) for i, nodes in enumerate(captured.op_nodes) if nodes]
    return [i for i, node in first if node.meta.get("val") is None]


@pytest.mark.parametrize(
    ("function", "checks"),
    [
        (checked, 1),
        (lambda z: z * F.one_hot(z.argmax(-1), 8), ONE_HOT_CHECKS),
        (lambda z: torch.linalg.solve(square(z), z), 1),
        (lambda z: torch.linalg.inv(square(z)) @ torch.linalg.inv(square(z) + 1), 2),
        (lambda z: torch.linalg.cholesky(square(z).expand(2, 4, 4)) @ z, 1),
        (lambda z: InverseInBackward.apply(z) * 2, 1),
    ],
    ids=["assert", "one_hot", "solve", "inverses", "cholesky of a batch", "in backward"],
)
def test_checks_are_ops_that_run_once(function: Callable[..., Any], checks: int) -> None:
    captured = agree(Function(lambda self, x: function(self.first(x))), (X,))
    found = checks_of(captured)
    assert len(found) == checks
    assert not any(captured.graph.ops[i].recomputable for i in found)
    assert all(slot.node.op == "placeholder" for slot in captured.slots[:3])
