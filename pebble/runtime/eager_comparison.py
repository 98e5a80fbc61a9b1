"""A step beside eager's: what each leaves behind, and where the two differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from pebble.runtime.agreement import Agreement, Named, compare, largest_difference
from pebble.runtime.bench import Bench, deterministic, named_tensors, roots_of
from pebble.runtime.random_states import RandomStates
from pebble.runtime.step_twin import to_host
from pebble.tracing.signature import HELD


def compare_with_eager(planned: Bench, eager: Bench, known: Named | None = None) -> Agreement:
    """Run a step planned and eagerly from the same state, and compare what they leave behind.

    Parameters
    ----------
    planned, eager : Bench
    known : mapping, optional
        What `results` gave for the eager one.
    """
    expected = results(eager) if known is None else known
    found = results(planned)
    agreement = compare(found, expected)
    if agreement.wrong is None:
        return agreement
    return compare(found, expected, _noise(eager, expected))


def results(bench: Bench) -> dict[str, torch.Tensor | None]:
    """What a step leaves behind, on the host, by name, in the order in which it is made.

    Outputs, and which of them can be differentiated; the loss; what was written to; the random
    states; gradients. Where micro-batches are added up there are two of them.
    """
    twin = bench.twin
    bench.reset()
    with deterministic():
        for _ in range(2 if bench.captured.accumulates else 1):
            left = _run(bench)
    left |= {name: to_host(tensor) for name, tensor in twin.written()}
    states = RandomStates.now(bench.device)
    left["random state"] = states.cpu
    if states.own is not None:
        left["random state of the device"] = states.own
    for name, tensor in twin.differentiated():
        grad = tensor.grad
        left[f"gradient of {name!r}"] = grad if grad is None or grad.is_cpu else grad.cpu()
    bench.reset()
    return left


def _run(bench: Bench) -> dict[str, torch.Tensor | None]:
    left: dict[str, torch.Tensor | None] = {}
    with bench.autocast():
        output = bench.call()
        roots = {n: t for n, t in roots_of(bench.captured, output).items() if t.requires_grad}
        for name, tensor in _compared(bench, named_tensors(output)).items():
            left[f"output {name!r}"] = to_host(tensor)
            if tensor.requires_grad:
                left[f"derivative of output {name!r}"] = torch.tensor(True)
        if bench.twin.loss is not None:
            loss = bench.loss(output)
            left["loss"] = to_host(loss)
    with bench.no_autocast():
        if bench.twin.loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        elif roots:
            torch.autograd.backward(list(roots.values()), _tangents(roots.values()))
    return left


def _compared(bench: Bench, named: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The outputs that the planned step hands over at all."""
    captured = bench.captured
    if not (captured.loss_only or captured.chunks):
        return named
    handed = {output.name for output in captured.outputs if output.kind in HELD}
    return {name: tensor for name, tensor in named.items() if name in handed}


def _tangents(roots: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """What the loop might hand to the backward: ones for a loss, other numbers for the rest.

    The gradient of a sum is zero wherever what is summed is normalised. They are laid out as the
    outputs are, as elementwise losses leave them: in another layout eager adds up in another order.
    """
    generator = torch.Generator().manual_seed(0)
    made = []
    for root in roots:
        drawn = torch.ones(root.shape, device="cpu")
        if root.numel() > 1:
            drawn = torch.randn(root.shape, generator=generator, device="cpu")
        made.append(torch.empty_like(root.detach()).copy_(drawn))
    return made


def _noise(eager: Bench, expected: Named) -> dict[str, float]:
    """By how much eager differs from itself where its weights are rounded once more."""
    generator = torch.Generator().manual_seed(0)
    again = Bench(eager.twin.fresh(), seed=eager.seed)
    weights = {n: t for n, t in again.twin.parameters.items() if t.is_floating_point()}
    contents = dict(again.twin.contents)
    for name, weight in weights.items():
        key = f"parameter {name!r}"
        contents[key] = _rounded_once_more(contents[key], generator)
        weight.detach().copy_(contents[key])
    again.twin.contents = contents
    try:
        found = results(again)
    finally:
        eager.reset()
    return {
        name: largest_difference(other, tensor)
        for name, tensor in expected.items()
        if tensor is not None
        and (other := found.get(name)) is not None
        and tensor.shape == other.shape
    }


def _rounded_once_more(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    ups = torch.randint(0, 2, weight.shape, generator=generator, device="cpu").mul_(2).sub_(1)
    return weight * (1 + torch.finfo(weight.dtype).eps * ups.to(weight.dtype))
