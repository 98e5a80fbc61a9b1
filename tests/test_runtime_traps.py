"""Every way in which a planned module could differ from the model it replaces."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pebble.errors import InvalidArgument, PebbleError, PlanMismatch
from pebble.runtime import PlannedModule, build
from pebble.schedule import Schedule
from pebble.tracing import capture


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small ops wait for one another's threads for longer than they run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """A classifier with everything that has a mode or a state."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(p)
        self.head = nn.Linear(8, 3)
        self.note = "kept"

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        logits = self.head(self.dropout(self.inner(x)))
        if y is None:
            return logits
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "name": self.note}

    def double_note(self) -> str:
        return self.note * 2


X, Y = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])


def everything_again(graph: Any) -> Schedule:
    """Every forward op that may run twice runs again right before its first backward reader."""
    order: list[int] = []
    fresh: set[int] = set()
    for i, op in enumerate(graph.ops):
        if graph.boundary is not None and i > graph.boundary:
            order += again(graph, op.inputs, fresh)
        order.append(i)
    return Schedule(tuple(order))


def again(graph: Any, values: tuple[int, ...], fresh: set[int]) -> list[int]:
    steps: list[int] = []
    for v in values:
        op = int(graph.arrays.producer[v])
        if 0 <= op < graph.boundary and graph.ops[op].recomputable and op not in fresh:
            fresh.add(op)
            steps += [*again(graph, graph.ops[op].inputs, fresh), op]
    return steps


def planned(model: nn.Module, *args: Any, on_mismatch: str = "error", **kwargs: Any) -> Any:
    captured = capture(model, args, kwargs)
    return build(model, captured, everything_again(captured.graph), on_mismatch=on_mismatch)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def grads(model: nn.Module) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def equal(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# -- it is the model ---------------------------------------------------------------------------


def test_it_has_the_model_s_class_names_parameters_and_attributes() -> None:
    model = Net()
    module = planned(model, X, Y)
    assert isinstance(module, Net)
    assert isinstance(module, PlannedModule)
    assert type(module).__name__ == "Net"
    assert list(module.state_dict()) == list(model.state_dict())
    assert [n for n, _ in module.named_modules()] == [n for n, _ in model.named_modules()]
    assert all(a is b for a, b in zip(module.parameters(), model.parameters(), strict=True))
    assert module.note == "kept"
    assert module.double_note() == "keptkept"
    assert list(inspect.signature(module.forward).parameters) == ["x", "y"]


def test_it_trains_as_eager_does() -> None:
    model = Net()
    twin = copy.deepcopy(model)
    module = planned(model, X, Y)
    for net in (module, twin):
        optimizer = torch.optim.AdamW(net.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            net(X, Y)["loss"].backward()
            optimizer.step()
    for (name, a), b in zip(module.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    assert int(module.inner[1].num_batches_tracked) == 3


def test_outputs_keep_their_type_and_only_the_loss_has_autograd() -> None:
    output = planned(Net(), X, Y)(X, Y)
    assert type(output) is dict
    assert output["name"] == "kept"
    assert output["loss"].requires_grad
    assert not output["logits"].requires_grad
    assert output["logits"].shape == (5, 3)


@dataclass
class Pair:
    left: torch.Tensor
    right: tuple[torch.Tensor, None, int]


def test_a_loss_outside_of_the_model_gives_eager_s_gradients() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> Pair:
            return Pair(self.a(x), (self.b(x), None, 7))

    def loss(out: Pair) -> torch.Tensor:
        return out.left.square().sum() + out.right[0].mean()

    model = Two()
    loss(model(X)).backward()
    expected = grads(model)
    model.zero_grad()
    captured = capture(model, (X,), loss=loss)
    module = build(model, captured, Schedule.keep_all(captured.graph))
    output = module(X)
    assert type(output) is Pair
    assert output.right[1:] == (None, 7)
    loss(output).backward()
    assert all(torch.allclose(a, b) for a, b in zip(expected, grads(model), strict=True))
    # a root without a gradient of its own counts as zero
    model.zero_grad()
    module(X).left.sum().backward()
    assert not model.b.weight.grad.any()
    assert model.a.weight.grad.any()


def test_a_gradient_flows_into_an_input_and_its_history() -> None:
    model = nn.Linear(6, 3)
    before = nn.Linear(6, 6)
    x = before(X)
    captured = capture(model, (x,))
    module = build(model, captured, Schedule.keep_all(captured.graph))
    module(x).sum().backward()
    found = before.weight.grad.clone()
    before.zero_grad()
    model(before(X)).sum().backward()
    assert torch.allclose(found, before.weight.grad)


def test_an_input_that_the_forward_writes_to_is_written_to() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
            seen.add_(1)
            return self.linear(x).square().mean()

    seen = torch.zeros(2)
    module = planned(Counter(), X, seen)
    module(X, seen).backward()
    assert seen.tolist() == [1.0, 1.0]


# -- modes -------------------------------------------------------------------------------------


def test_no_grad_inference_mode_and_eval_run_the_model_itself() -> None:
    module = planned(Net(p=0.5), X, Y)
    with torch.no_grad():
        assert not module(X, Y)["loss"].requires_grad
    with torch.inference_mode():
        assert not module(X, Y)["loss"].requires_grad
    module.eval()
    assert not module.head.training
    assert torch.equal(module(X), module(X)), "no dropout in evaluation mode"
    assert module(X[:2]).shape == (2, 3), "any shape in evaluation mode"
    assert module(X).requires_grad
    module.train()
    assert module(X, Y)["loss"].requires_grad


def test_a_submodule_in_another_mode_is_a_mismatch() -> None:
    module = planned(Net(), X, Y)
    module.inner[1].eval()
    with pytest.raises(PlanMismatch, match=r"inner\.1.*training.*evaluation"):
        module(X, Y)


def test_a_model_planned_in_evaluation_mode_follows_its_plan_there() -> None:
    model = Net(p=0.5).eval()
    module = planned(model, X, Y)
    out = module(X, Y)
    assert not out["logits"].requires_grad, "the plan detaches what is not the loss"
    out["loss"].backward()
    assert int(model.inner[1].num_batches_tracked) == 0


def test_ambient_autocast_is_a_mismatch_and_does_not_leak() -> None:
    module = planned(Net(), X, Y)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(PlanMismatch, match="Autocast"):
        module(X, Y)
    output = module(X, Y)
    with torch.autocast("cpu", torch.bfloat16):
        output["loss"].backward()
    assert module.head.weight.grad.dtype is torch.float32
    model = Net()
    module = planned(model, X, Y)
    module(X, Y)["loss"].backward()
    expected = grads(model)
    model.zero_grad()
    output = module(X, Y)
    with torch.autocast("cpu", torch.bfloat16):
        output["loss"].backward()
    assert equal(expected, grads(model))


def test_autocast_that_was_on_at_planning() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        module = planned(model, X)
        out = module(X)
        assert out.dtype is torch.bfloat16
        out.float().sum().backward()
        found = grads(model)
        model.zero_grad()
        model(X).float().sum().backward()
    assert equal(found, grads(model))
    with pytest.raises(PlanMismatch, match=r"was on .*bfloat16.*, but is off"):
        module(X)


# -- inputs ------------------------------------------------------------------------------------

MISMATCHES: dict[str, tuple[Callable[[], tuple[tuple[Any, ...], dict[str, Any]]], str]] = {
    "shape": (lambda: ((X[:4], Y), {}), r"args\[0\].*shape \[5, 6\].*\[4, 6\]"),
    "dtype": (lambda: ((X.double(), Y), {}), r"args\[0\].*float32.*float64"),
    "strides": (lambda: ((X.t().contiguous().t(), Y), {}), r"args\[0\].*strides"),
    "gradient": (lambda: ((X.clone().requires_grad_(), Y), {}), r"args\[0\].*requires_grad"),
    "missing": (lambda: ((X,), {}), r"args\[1\].*missing"),
    "no tensor": (lambda: ((X, 3), {}), r"args\[1\].*tensor.*int"),
    "one more": (lambda: ((X, Y), {"z": X}), r"kwargs\['z'\].*new"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_other_inputs_are_a_mismatch(case: str) -> None:
    make, text = MISMATCHES[case]
    args, kwargs = make()
    with pytest.raises(PlanMismatch, match=text):
        planned(Net(), X, Y)(*args, **kwargs)


def test_arguments_may_come_by_position_or_by_keyword_in_any_order() -> None:
    module = planned(Net(), X, Y)
    losses = [module(X, Y), module(X, y=Y), module(y=Y, x=X)]
    assert len({float(out["loss"]) for out in losses}) == 1


def test_constants_of_the_call_are_part_of_the_plan() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return super().forward(x) * scale

    module = planned(Scaled(6, 3), X, 2.0)
    module(X, scale=2.0).sum().backward()
    with pytest.raises(PlanMismatch, match="scale|args"):
        module(X, 3.0)
    with pytest.raises(PlanMismatch, match="missing"):
        module(X)
    module = planned(Scaled(6, 3), X)
    module(X, 1.0).sum().backward()  # the default, said aloud
    with pytest.raises(PlanMismatch, match=r"planned as 1\.0, but is 3\.0"):
        module(X, 3.0)
    with pytest.raises(PlanMismatch, match="new"):
        planned(Scaled(6, 3), X)(X, 3.0)


def test_two_inputs_that_were_one_tensor_at_planning_may_differ_later() -> None:
    model = nn.Bilinear(6, 6, 2)
    module = planned(model, X, X)
    other = torch.randn(5, 6)
    module(X, other).sum().backward()
    found = grads(model)
    model.zero_grad()
    model(X, other).sum().backward()
    assert all(torch.allclose(a, b) for a, b in zip(found, grads(model), strict=True))


def test_on_mismatch_eager_runs_the_model() -> None:
    module = planned(Net(), X, Y, on_mismatch="eager")
    output = module(X[:2], Y[:2])
    assert output["logits"].requires_grad, "eager mode detaches nothing"
    assert not module(X, Y)["logits"].requires_grad
    with pytest.raises(InvalidArgument, match="on_mismatch"):
        planned(Net(), X, Y, on_mismatch="ignore")


# -- parameters and submodules -------------------------------------------------------------------


def test_a_replaced_parameter_is_honoured() -> None:
    model = Net()
    module = planned(model, X, Y)
    model.head.weight = nn.Parameter(torch.zeros(3, 8))
    module.head.bias = nn.Parameter(torch.zeros(3))
    assert not module(X, Y)["logits"].any()
    module.load_state_dict({k: v.clone() for k, v in Net().state_dict().items()}, assign=True)
    assert module(X, Y)["logits"].any()
    module(X, Y)["loss"].backward()
    assert module.head.weight.grad is not None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.double(), "float32.*float64"),
        (lambda m: m.half(), "float32.*float16"),
        (lambda m: m.head.weight.requires_grad_(False), "requires_grad=True"),
        (lambda m: setattr(m.head, "weight", nn.Parameter(torch.zeros(4, 8))), "shape"),
        (lambda m: setattr(m, "head", nn.Identity()), "head.*Linear.*Identity"),
        (lambda m: delattr(m, "head"), "head.*gone"),
        (lambda m: setattr(m.dropout, "p", 0.25), "'p' of 'dropout'"),
        (lambda m: m.head.register_forward_hook(lambda *a: None), "head.*hook"),
        (lambda m: m.head.register_full_backward_hook(lambda *a: None), "head.*hook"),
        (lambda m: m.inner[0].register_forward_pre_hook(lambda *a: None), "inner.0.*hook"),
    ],
)
def test_a_changed_model_is_a_mismatch(change: Callable[[nn.Module], Any], text: str) -> None:
    module = planned(Net(), X, Y)
    change(module)
    with pytest.raises(PlanMismatch, match=text):
        module(X, Y)


def test_a_hook_that_was_there_before_is_refused_at_once() -> None:
    model = Net()
    captured = capture(model, (X, Y))
    model.head.register_forward_hook(lambda *a: None)
    with pytest.raises(PlanMismatch, match="head.*hook"):
        build(model, captured, Schedule.keep_all(captured.graph))
    build(model, captured, Schedule.keep_all(captured.graph), on_mismatch="eager")


def test_hooks_on_the_whole_model_and_on_parameters_run() -> None:
    module = planned(Net(), X, Y)
    seen = []
    module.register_forward_hook(lambda m, a, out: seen.append("forward"))
    module.head.weight.register_hook(lambda g: seen.append("gradient"))
    module.head.bias.register_post_accumulate_grad_hook(lambda p: seen.append("accumulated"))
    module(X, Y)["loss"].backward()
    assert sorted(seen) == ["accumulated", "forward", "gradient"]


def test_weight_norm_is_part_of_the_graph() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)))
    module = planned(model, X)
    module(X).square().sum().backward()
    found = grads(model)
    model.zero_grad()
    model(X).square().sum().backward()
    assert all(torch.allclose(a, b) for a, b in zip(found, grads(model), strict=True))


def test_tied_weights_have_one_gradient_and_must_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(self.head(self.embed(ids)), ids)

    ids = torch.tensor([1, 2, 3])
    model = Tied()
    module = planned(model, ids)
    module(ids).backward()
    found = grads(model)
    model.zero_grad()
    model(ids).backward()
    assert len(found) == 1
    assert torch.allclose(found[0], model.embed.weight.grad)
    module.head.weight = nn.Parameter(torch.zeros(7, 4))
    with pytest.raises(PlanMismatch, match="one tensor"):
        module(ids)


# -- autograd ------------------------------------------------------------------------------------


def test_a_second_backward_says_what_to_do() -> None:
    loss = planned(Net(), X, Y)(X, Y)["loss"]
    loss.backward(retain_graph=True)
    with pytest.raises(PebbleError, match="once"):
        loss.backward()


def test_double_backward_says_what_to_do() -> None:
    module = planned(Net(), X, Y)
    with pytest.raises(PebbleError, match="create_graph"):
        torch.autograd.grad(module(X, Y)["loss"], list(module.parameters()), create_graph=True)


def test_a_parameter_changed_between_forward_and_backward_is_an_error() -> None:
    module = planned(Net(), X, Y)
    loss = module(X, Y)["loss"]
    with torch.no_grad():
        module.head.weight.add_(1)
    with pytest.raises(PebbleError, match=r"head\.weight.*modified in place"):
        loss.backward()


def test_an_output_changed_between_forward_and_backward_is_an_error() -> None:
    module = planned(nn.Sequential(nn.Linear(6, 3), nn.Tanh()), X)
    output = module(X)
    with torch.no_grad():
        output.zero_()
    with pytest.raises(PebbleError, match="modified in place"):
        output.sum().backward()


def test_two_forwards_before_two_backwards() -> None:
    model = Net()
    module = planned(model, X, Y)
    other = torch.randn(5, 6)
    one, two = module(X, Y)["loss"], module(other, Y)["loss"]
    two.backward()
    one.backward()
    found = grads(model)
    model.zero_grad()
    module(X, Y)["loss"].backward()
    module(other, Y)["loss"].backward()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, grads(model), strict=True))


def test_gradients_accumulate_over_micro_batches() -> None:
    model = nn.Linear(6, 3)
    module = planned(model, X)
    module(X).sum().backward()
    once = grads(model)
    module(X).sum().backward()
    assert all(torch.allclose(2 * a, b) for a, b in zip(once, grads(model), strict=True))


def test_gradients_are_handed_over_not_copied() -> None:
    model = Net()
    module = planned(model, X, Y)
    step = module.__dict__["_pebble_follower"].stepper
    returned: list[int] = []
    run = step.backward

    def spy(*arguments: Any) -> Any:
        made = run(*arguments)
        returned.extend(g.data_ptr() for g in made)
        return made

    step.backward = spy
    module(X, Y)["loss"].backward()
    assert [p.grad.data_ptr() for p in model.parameters()] == returned


def test_nothing_is_left_when_the_backward_never_comes() -> None:
    module = planned(nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Sigmoid()), X)
    gc.collect()
    gc.disable()
    try:
        output = module(X)
        step = weakref.ref(output.grad_fn)
        del output
        assert step() is None, "a cycle keeps the saved tensors until the collector runs"
    finally:
        gc.enable()


def test_threads_may_share_a_module() -> None:
    model = Net()
    module = planned(model, X, Y)
    losses: list[float] = []

    def work() -> None:
        for _ in range(5):
            losses.append(float(module(X, Y)["loss"].detach()))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(losses) == 15
    assert len(set(losses)) == 1


# -- copies and files ----------------------------------------------------------------------------


def test_a_deep_copy_trains_its_own_weights() -> None:
    model = Net()
    module = planned(model, X, Y)
    twin = copy.deepcopy(module)
    assert isinstance(twin, PlannedModule)
    twin(X, Y)["loss"].backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in twin.parameters())


def test_torch_save_and_load_keep_the_plan() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    module = planned(model, X)
    module(X).sum().backward()
    expected = grads(model)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, PlannedModule)
    loaded(X).sum().backward()
    loaded.zero_grad()
    loaded(X).sum().backward()
    assert equal(expected, grads(loaded))
    follower = loaded.__dict__["_pebble_follower"]
    assert follower.stepper is not None
    assert follower.schedule == module.__dict__["_pebble_follower"].schedule


def test_the_state_dict_loads_into_the_model_without_a_plan() -> None:
    module = planned(Net(), X, Y)
    assert not Net().load_state_dict(module.state_dict()).missing_keys


def test_a_graph_module_can_be_planned_and_copied() -> None:
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)))
    module = planned(model, X)
    module(X).sum().backward()
    assert copy.deepcopy(module)(X).shape == (5, 2)


def test_a_planned_module_can_be_planned_again() -> None:
    model = Net()
    module = planned(model, X, Y)
    captured = capture(model, (X, Y))
    module = build(module, captured, Schedule.keep_all(captured.graph))
    module(X, Y)["loss"].backward()
    assert type(module).__mro__.count(PlannedModule) == 1


def test_torch_compile_around_it_still_follows_the_plan() -> None:
    model = Net()
    module = planned(model, X, Y)
    module(X, Y)["loss"].backward()
    expected = grads(model)
    model.zero_grad()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.reset_running_stats()
    compiled = torch.compile(module, backend="eager")
    output = compiled(X, Y)
    assert not output["logits"].requires_grad
    output["loss"].backward()
    assert equal(expected, grads(model))
