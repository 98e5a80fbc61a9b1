"""Capture: the joint graph computes what eager computes, and the Graph says what it holds."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pebble.errors import CaptureError, InvalidArgument
from pebble.graph import Phase
from pebble.outputs import take_apart
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.tracing import Captured, OutputKind, SlotKind, capture

USER = (OutputKind.DIFFERENTIABLE, OutputKind.PLAIN)
X = torch.linspace(-1, 1, 32).reshape(4, 8)


class Function(nn.Module):
    """A module whose forward is a function of the module and the inputs."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def tensors_of(captured: Captured, model: nn.Module, args: Any, kwargs: Any) -> list[Any]:
    """One detached copy per placeholder, as a caller would look them up."""
    held = dict(model.named_parameters(remove_duplicate=False))
    held |= dict(model.named_buffers(remove_duplicate=False))
    places = {"args": args, "kwargs": kwargs}
    found = []
    for slot in captured.slots:
        if slot.node.op == "placeholder":
            is_input = slot.kind is SlotKind.INPUT
            tensor = eval(slot.name, places) if is_input else held[slot.name]
            found.append(tensor.detach().clone())
    return found


def agree(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    loss: Any = None,
    call: dict[str, Any] | None = None,
) -> Captured:
    """Capture, check the graph, and compare the interpreted joint graph with eager."""
    kwargs = kwargs or {}
    captured = capture(model, args, kwargs, loss=loss)
    check_graph(captured)
    given = tensors_of(captured, model, args, kwargs)
    eager = copy.deepcopy(model)
    torch.manual_seed(3)
    mine = copy.deepcopy((args, kwargs))
    output = eager(*mine[0], **mine[1], **(call or {}))
    _, made = take_apart(output)
    shown = [o for o in captured.outputs if o.kind in USER]
    assert len(made) == len(shown)
    roots = [i for i, o in enumerate(shown) if o.kind is OutputKind.DIFFERENTIABLE]
    leaves = [tensor.detach().requires_grad_(i in roots) for i, tensor in enumerate(made)]
    scalar = (loss or sum_of(roots))(captured.rebuild(leaves))
    tangents = torch.autograd.grad(scalar, [leaves[i] for i in roots])
    (loss or sum_of(roots))(output).backward()

    torch.manual_seed(3)
    with torch.no_grad():
        results = fx.Interpreter(captured.joint).run(*given, *tangents)
    nodes = captured.joint.graph.output_node().args[0]
    by_node = {node: result for node, result in zip(nodes, results) if node is not None}
    for output_, tensor in zip(shown, made):
        torch.testing.assert_close(by_node[output_.node], tensor.detach())
    held = dict(eager.named_parameters(remove_duplicate=False))
    buffers = dict(eager.named_buffers(remove_duplicate=False))
    for slot in captured.slots:
        if slot.node in captured.gradients and slot.kind is SlotKind.PARAMETER:
            gradient = captured.gradients[slot.node]
            expected = held[slot.name].grad
            assert (gradient is None) == (expected is None), slot.name
            if gradient is not None:
                torch.testing.assert_close(by_node[gradient], expected)
    for output_ in captured.outputs:
        if output_.kind is OutputKind.BUFFER_UPDATE:
            torch.testing.assert_close(by_node[output_.node], buffers[output_.name])
        if output_.kind is OutputKind.INPUT_UPDATE:
            expected = eval(output_.name, {"args": mine[0], "kwargs": mine[1]})
            torch.testing.assert_close(by_node[output_.node], expected)
    rebuilt = captured.rebuild([by_node[o.node] for o in shown])
    assert type(rebuilt) is type(output)
    assert len(take_apart(rebuilt)[1]) == len(made)
    return captured


def sum_of(roots: list[int]) -> Callable[[Any], Any]:
    return lambda output: sum(take_apart(output)[1][i].sum() for i in roots)


def check_graph(captured: Captured) -> None:
    """What every capture must fulfil."""
    graph = captured.graph
    simulate(graph, Schedule.keep_all(graph))
    assert graph.boundary is not None
    boundary = graph.ops[graph.boundary]
    assert not boundary.recomputable and captured.op_nodes[graph.boundary] == ()
    made = tuple(captured.value_of[s.node] for s in captured.tangents)
    assert boundary.outputs[: len(made)] == made
    assert all(graph.values[v].pinned for v in boundary.outputs)
    assert {captured.value_of[o.node] for o in captured.outputs} <= set(boundary.inputs)
    executed = [node for nodes in captured.op_nodes for node in nodes]
    assert len(executed) == len(set(executed))
    assert captured.views.isdisjoint(executed)
    for node in captured.joint.graph.nodes:
        if node.op == "call_function":
            assert (node in captured.views) != (node in set(executed))
        if isinstance(node.meta.get("val"), torch.Tensor):
            value = graph.values[captured.value_of[node]]
            assert value.size == node.meta["val"].untyped_storage().nbytes()
    assert len(captured.value_source) == len(graph.values)
    for i, op in enumerate(graph.ops):
        assert op.phase is (Phase.FORWARD if i <= graph.boundary else Phase.BACKWARD)
        for node in captured.op_nodes[i][:1]:
            assert not node.target._schema.is_mutable
    seen = [captured.value_of[g] for g in captured.gradients.values() if g is not None]
    assert len(seen) == len(set(seen)), "every gradient has a storage of its own"
    assert all(graph.values[v].pinned for v in seen)
    inputs = {captured.value_of[s.node] for s in captured.slots}
    assert inputs == {i for i, value in enumerate(graph.values) if value.external}


def grads(captured: Captured) -> list[fx.Node]:
    return [g for g in captured.gradients.values() if g is not None]


def op_kinds(captured: Captured) -> str:
    return "\n".join(op.kind for op in captured.graph.ops)


# -- models ------------------------------------------------------------------------------------


def test_linear() -> None:
    captured = agree(nn.Linear(8, 4), (X,))
    assert [(s.kind, s.name) for s in captured.slots] == [
        (SlotKind.PARAMETER, "weight"),
        (SlotKind.PARAMETER, "bias"),
        (SlotKind.INPUT, "args[0]"),
    ]
    assert captured.graph.values[captured.value_of[captured.tangents[0].node]].size == 4 * 4 * 4
    assert not captured.fake and captured.device == "cpu"


def test_frozen_parameters_get_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model[0].requires_grad_(False)
    captured = agree(model, (X,))
    named = {s.name for s in captured.slots if s.node in captured.gradients}
    assert named == {"2.weight", "2.bias"}


def test_tied_weights_are_one_slot_and_one_gradient() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    captured = agree(model, (X,))
    (tied,) = [s for s in captured.slots if s.aliases]
    assert (tied.name, tied.aliases) == ("0.weight", ("2.weight",))
    assert len(captured.gradients) == 3


def test_batch_norm_updates_its_buffers_once_and_may_be_recomputed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    captured = agree(model, (torch.randn(2, 3, 8, 8),))
    updates = [o.name for o in captured.outputs if o.kind is OutputKind.BUFFER_UPDATE]
    assert sorted(updates) == ["1.num_batches_tracked", "1.running_mean", "1.running_var"]
    norm = next(op for op in captured.graph.ops if "batch_norm" in op.kind)
    assert norm.recomputable and norm.module == "1"
    pinned = {captured.value_of[o.node] for o in captured.outputs if o.name in updates}
    assert not any(captured.graph.values[v].pinned for v in pinned)


def test_a_buffer_that_is_written_to_in_place() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        out = self.first(x) * self.norm.running_mean.clone()
        with torch.no_grad():
            self.norm.running_mean.mul_(0.5).add_(0.25)
        return out

    norm = nn.BatchNorm1d(8)
    norm.running_mean.fill_(2.0)
    captured = agree(Function(forward, norm=norm), (X,))
    (slot,) = [s for s in captured.slots if s.kind is SlotKind.BUFFER]
    readers = [op for op in captured.graph.ops if captured.value_of[slot.node] in op.inputs]
    assert readers and not any(op.recomputable for op in readers)


def test_a_buffer_that_is_replaced_is_refused() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.norm.running_mean = self.norm.running_mean * 0.5
        return self.first(x)

    model = Function(forward, norm=nn.BatchNorm1d(8))
    before = model.norm.running_mean
    with pytest.raises(CaptureError, match="copy_"):
        capture(model, (X,))
    assert model.norm.running_mean is before


def test_python_state_that_a_plan_does_not_change_is_told(caplog: Any) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.first(x)

    model = Function(forward)
    model.calls = 0
    agree(model, (X,))
    assert model.calls == 0
    assert "Python state" in caplog.text


def test_mutated_input() -> None:
    def forward(self: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mask.mul_(0.5)
        return self.first(x) * mask

    captured = agree(Function(forward), (X, torch.ones(4, 8)))
    assert captured.outputs[0].kind is OutputKind.INPUT_UPDATE
    assert captured.outputs[0].name == "args[1]"


def test_dropout_draws_are_never_repeated() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))
    captured = agree(model, (X,))
    drawn = [op for op in captured.graph.ops if "bernoulli" in op.kind]
    assert len(drawn) == 1
    assert not drawn[0].recomputable
    assert not any("native_dropout.default" in op.kind for op in captured.graph.ops)


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_attention_may_be_repeated_only_without_dropout(p: float) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        q = self.first(x).reshape(1, 2, 4, 4)
        return F.scaled_dot_product_attention(q, q, q, dropout_p=p)

    captured = agree(Function(forward), (X,))
    random = [op for op in captured.graph.ops if not op.recomputable and op.kind[0:4] == "aten"]
    assert bool(random) == (p > 0)


def test_autocast_region() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.first(x)
        return hidden.float().square()

    captured = agree(Function(forward), (X,))
    assert any(v.spec.startswith("bf16") for v in captured.graph.values)
    assert captured.state.autocast[0][:2] == ("cpu", False)


def test_ambient_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        captured = agree(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (X,))
    assert captured.state.autocast[0] == ("cpu", True, torch.bfloat16)
    assert captured.tangents[0].node.meta["val"].dtype is torch.bfloat16
    plain = capture(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (X,))
    assert plain.graph.fingerprint != captured.graph.fingerprint


@dataclass
class Answer:
    loss: torch.Tensor
    hidden: Any
    note: str = ""


class Pair(NamedTuple):
    loss: torch.Tensor
    rest: Any


class Box:
    """Neither a dataclass nor a container, as a key-value cache is."""

    def __init__(self, keys: list[torch.Tensor]) -> None:
        self.keys = keys
        self.length = 3


SHAPES: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "tuple": lambda s, h: (s, None, h),
    "list": lambda s, h: [s, [h, h.view(-1)]],
    "dict": lambda s, h: {"other": h, "loss": s, "n": 3},
    "dataclass": lambda s, h: Answer(s, (h, h * 2), "text"),
    "namedtuple": lambda s, h: Pair(s, {"h": h}),
    "object": lambda s, h: (s, Box([h])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_of_any_shape_come_back(shape: str) -> None:
    make = SHAPES[shape]

    def forward(self: Any, x: torch.Tensor) -> Any:
        hidden = self.first(x)
        return make(hidden.square().mean(), hidden)

    captured = agree(Function(forward), (X,))
    kinds = [o.kind for o in captured.outputs]
    assert kinds.count(OutputKind.DIFFERENTIABLE) == 1
    assert len(captured.tangents) == 1
    assert captured.tangents[0].node.meta["val"].dim() == 0


def test_outputs_that_are_inputs_or_weights() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        return self.first(x).sum(), x, self.first.weight, x[:2]

    agree(Function(forward), (X,))


def test_same_tensor_for_two_inputs_is_two_inputs() -> None:
    def forward(self: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.first(x) * y

    captured = agree(Function(forward), (X, X))
    assert [s.name for s in captured.slots if s.kind is SlotKind.INPUT] == ["args[0]", "args[1]"]


def test_unused_and_constant_inputs() -> None:
    def forward(self: Any, x: torch.Tensor, *, unused: Any, scale: float) -> torch.Tensor:
        return self.first(x) * scale

    captured = agree(Function(forward), (X,), {"unused": {"y": torch.ones(2)}, "scale": 0.5})
    names = [s.name for s in captured.slots if s.kind is SlotKind.INPUT]
    assert names == ["args[0]", "kwargs['unused']['y']"]
    assert captured.state.constants == {"kwargs['scale']": 0.5}


def test_inputs_that_need_gradients() -> None:
    x = X.clone().requires_grad_()
    captured = agree(nn.Linear(8, 4), (x,))
    (slot,) = [s for s in captured.slots if s.kind is SlotKind.INPUT]
    assert captured.gradients[slot.node] is not None


def test_tensors_of_the_module_that_are_no_buffers() -> None:
    model = Function(lambda self, x: self.first(x) * self.factor + torch.tensor([1.5]))
    model.factor = torch.tensor(2.0)
    captured = agree(model, (X,))
    constants = [s for s in captured.slots if s.kind is SlotKind.CONSTANT]
    assert {s.node.op for s in constants} == {"get_attr"} and len(constants) == 2


def test_gradients_are_laid_out_for_autograd_to_take() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(4, 8)), nn.Parameter(torch.ones(4, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.a + self.b + x).sum()

    captured = agree(Sums(), (X,))
    for gradient in captured.gradients.values():
        assert gradient is not None and gradient.meta["val"].is_contiguous()


def test_gradients_that_are_parts_of_one_tensor() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(4, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.a, self.b], 1).mul(x).exp()

    captured = agree(Parts(), (X,))
    sizes = [captured.graph.values[captured.value_of[g]].size for g in grads(captured)]
    assert sizes == [4 * 2 * 4, 4 * 6 * 4]


def test_channels_last_weights_keep_their_layout() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    captured = agree(model, (torch.randn(2, 3, 8, 8),))
    for slot in captured.slots:
        if slot.name == "weight":
            gradient = captured.gradients[slot.node]
            assert gradient is not None
            assert gradient.meta["val"].stride() == model.weight.stride()


def test_dead_code_is_gone() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.first(x).exp().sum()
        return self.first(x)

    assert "exp" not in op_kinds(agree(Function(forward), (X,)))


# -- what is differentiated --------------------------------------------------------------------


def test_first_output_by_default() -> None:
    captured = agree(Function(lambda self, x: (self.first(x), self.first(x) * 2)), (X,))
    assert [o.kind for o in captured.outputs] == [OutputKind.DIFFERENTIABLE, OutputKind.PLAIN]
    assert captured.loss is None


def test_loss_chooses_the_outputs_it_uses() -> None:
    target = torch.ones(4, 8)

    def loss(output: Any) -> torch.Tensor:
        return F.mse_loss(output["b"], target) + output["c"].mean()

    def forward(self: Any, x: torch.Tensor) -> Any:
        h = self.first(x)
        return {"a": h.exp(), "b": h, "c": h.tanh()}

    captured = agree(Function(forward), (X,), loss=loss)
    kinds = {o.name: o.kind for o in captured.outputs}
    assert kinds["['a']"] is OutputKind.PLAIN
    assert [t.name for t in captured.tangents] == ["['b']", "['c']"]
    assert captured.loss is loss


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda out: out, "scalar"),
        (lambda out: out.detach().sum(), "no output"),
        (lambda out: out["loss"], "fails"),
    ],
)
def test_wrong_losses_are_refused(loss: Any, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        capture(nn.Linear(8, 8), (X,), loss=loss)


def test_nothing_to_differentiate() -> None:
    model = nn.Linear(8, 8).requires_grad_(False)
    with pytest.raises(CaptureError, match="Unfreeze"):
        capture(model, (X,))


# -- kinds of programs -------------------------------------------------------------------------


def test_graph_module() -> None:
    agree(fx.symbolic_trace(nn.Sequential(nn.Linear(8, 8), nn.GELU())), (X,))


def test_exported_program() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU())
    program = torch.export.export(model, (X,))
    captured = capture(program, (X,))
    check_graph(captured)
    assert len(captured.gradients) == 2


def test_no_module() -> None:
    with pytest.raises(InvalidArgument, match="function"):
        capture(lambda x: x, (X,))


def gpt2(**more: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, **more,
    )  # fmt: skip
    return GPT2LMHeadModel(config).train()


IDS = torch.arange(16).reshape(2, 8)


def test_gpt2_with_dropout_and_logging() -> None:
    captured = agree(gpt2(), (), {"input_ids": IDS, "labels": IDS}, call={"use_cache": False})
    assert [o.kind for o in captured.outputs] == list(USER)
    (tied,) = [s for s in captured.slots if s.aliases]
    assert set(tied.aliases) | {tied.name} == {"transformer.wte.weight", "lm_head.weight"}
    modules = {op.module for op in captured.graph.ops}
    assert "transformer.h.1.mlp.c_fc" in modules
    named = sum(bool(op.module) for op in captured.graph.ops)
    assert named > 0.8 * len(captured.graph.ops)


def test_gpt2_with_its_cache() -> None:
    kwargs = {"input_ids": IDS, "labels": IDS, "use_cache": True}
    captured = agree(gpt2(), (), kwargs)
    assert len(captured.outputs) > 2
    assert len(captured.tangents) == 1


def test_lora() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(gpt2(), config).train()
    kwargs = {"input_ids": IDS, "labels": IDS}
    captured = agree(model, (), kwargs, call={"use_cache": False})
    wanted = [s.name for s in captured.slots if s.node in captured.gradients]
    assert len(wanted) == 4 and all("lora_" in name for name in wanted)


# -- fake tensors and fingerprints -------------------------------------------------------------

ACROSS = """
import torch
from torch import nn
from pebble.tracing import capture
torch.manual_seed(1)
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.1))
print(capture(model, (torch.zeros(2, 3, 8, 8),)).graph.fingerprint)
"""


def test_fingerprint_is_the_same_from_fake_tensors_and_across_processes() -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.1)
        )

    real = capture(make(), (torch.randn(2, 3, 8, 8),))
    with FakeTensorMode():
        model, x = make(), torch.zeros(2, 3, 8, 8)
    fake = capture(model, (x,))
    mixed = capture(model, (torch.zeros(2, 3, 8, 8),))
    assert fake.fake and mixed.fake and not real.fake
    assert real.graph == fake.graph == mixed.graph
    done = subprocess.run([sys.executable, "-c", ACROSS], capture_output=True, text=True)
    assert done.stdout.strip() == real.graph.fingerprint, done.stderr[-500:]
    other = capture(make(), (torch.randn(2, 3, 9, 8),))
    assert other.graph.fingerprint != real.graph.fingerprint


def test_fingerprint_sees_views() -> None:
    same = capture(Function(lambda self, x: x @ self.first.weight), (X,))
    turned = capture(Function(lambda self, x: x @ self.first.weight.t()), (X,))
    assert same.graph.fingerprint != turned.graph.fingerprint


def test_a_large_model_is_captured_without_memory() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(num_hidden_layers=2, use_cache=False)  # hidden 4096: 7B's own shapes
    with FakeTensorMode():
        model = LlamaForCausalLM(config).train()
        ids = torch.zeros(1, 2048, dtype=torch.int64)
    captured = capture(model, (), {"input_ids": ids, "labels": ids})
    check_graph(captured)
    weights = [s for s in captured.slots if s.kind is SlotKind.PARAMETER]
    assert sum(captured.graph.values[captured.value_of[s.node]].size for s in weights) > 2e9
    assert all(op.recomputable for op in captured.graph.ops if op.kind[:4] == "aten")


# -- what cannot be captured -------------------------------------------------------------------


def line_of(function: Callable[..., Any], offset: int) -> str:
    return f"test_tracing.py:{function.__code__.co_firstlineno + offset}"


def test_data_dependent_control_flow_names_the_line() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return self.first(x)
        return x

    with pytest.raises(CaptureError) as caught:
        capture(Function(forward), (X,))
    assert line_of(forward, 1) in str(caught.value)
    assert "torch.where" in str(caught.value)


@pytest.mark.parametrize("what", ["item", "mask"])
def test_numbers_and_sizes_that_depend_on_data_name_the_line(what: str) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if what == "item":
            return self.first(x) * x.sum().item()
        return self.first(x)[x > 0]

    with pytest.raises(CaptureError, match="depends on data") as caught:
        capture(Function(forward), (X,))
    assert line_of(forward, 2 if what == "item" else 3) in str(caught.value)


def test_printing_and_warning_do_not_break_the_graph() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        print("text")  # noqa: T201
        warnings.warn("text", stacklevel=1)
        return self.first(x)

    agree(Function(forward), (X,))


def test_a_forward_that_computes_nothing() -> None:
    with pytest.raises(CaptureError, match="computes nothing"):
        capture(Function(lambda self, x: None), (X,))


def test_an_error_of_the_model_names_the_line() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.first(x @ x)

    with pytest.raises(CaptureError) as caught:
        capture(Function(forward), (X,))
    assert line_of(forward, 1) in str(caught.value)


def test_lstm_works_or_says_why() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]

    with pytest.raises(CaptureError, match=r"LSTMCell"):
        capture(Function(forward, lstm=nn.LSTM(8, 8)), (X,))


def test_written_tensor_that_is_no_buffer() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return self.first(x) * self.count

    model = Function(forward)
    model.count = torch.zeros(())
    with pytest.raises(CaptureError, match="register_buffer"):
        capture(model, (X,))


# -- no trace ----------------------------------------------------------------------------------


def test_capture_leaves_no_trace() -> None:
    from torch._dynamo import config

    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    model[2].eval()
    model[0].weight.grad = torch.ones(8, 8)
    before = copy.deepcopy(model.state_dict())
    keys = {name: set(vars(module)) for name, module in model.named_modules()}
    modes = [module.training for module in model.modules()]
    state, settings = torch.get_rng_state(), config.get_config_copy()
    x = X.clone()
    with torch.no_grad():
        capture(model, (x,))
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert config.get_config_copy() == settings
    assert [module.training for module in model.modules()] == modes
    assert {name: set(vars(module)) for name, module in model.named_modules()} == keys
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    assert torch.equal(model[0].weight.grad, torch.ones(8, 8))
    assert model[0].bias.grad is None and torch.equal(x, X)
    assert gc.isenabled()
