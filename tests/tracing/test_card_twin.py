"""A step as a card runs it, traced where there is no card: its ops, and that nothing is touched."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pebble.errors import CardWarning, InvalidArgument
from pebble.tracing import Captured, capture, step_form
from pebble.tracing.card_twin import CardTwin, as_on
from pebble.tracing.step_form import StepForm
from pebble.tracing.torch_private.card_tables import is_pretended, why_no_card
from pebble.tracing.torch_private.storages import storage_id

pytestmark = [
    pytest.mark.usefixtures("seeded"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a card is at hand"),
]


class Block(nn.Module):
    def __init__(self, width: int = 32, heads: int = 2, groups: int = 2) -> None:
        super().__init__()
        self.heads, self.groups = heads, groups
        self.norm = nn.RMSNorm(width)
        size = width // heads
        self.query = nn.Linear(width, width)
        self.key, self.value = nn.Linear(width, groups * size), nn.Linear(width, groups * size)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        y = self.norm(x)
        batch, rows, _ = y.shape
        cut = lambda t, n: t.view(batch, rows, n, -1).transpose(1, 2)  # noqa: E731
        z = F.scaled_dot_product_attention(
            cut(self.query(y), self.heads),
            cut(self.key(y), self.groups),
            cut(self.value(y), self.groups),
            mask,
            is_causal=mask is None,
            enable_gqa=self.groups < self.heads,
        )
        return x + F.silu(z.transpose(1, 2).reshape(x.shape))


class Target(nn.Module):
    """A loss with tensors of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(4))
        self.register_buffer("wanted", torch.zeros(3, dtype=torch.long))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.loss(y, self.wanted)


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)
    )


def on(card: str, model: nn.Module, *args: torch.Tensor, **form: object) -> Captured:
    return StepForm(card=card, **form).capture(model, args, {})  # type: ignore[arg-type]


def names(captured: Captured) -> Counter[str]:
    kinds = (op.kind.partition("(")[0] for op in captured.graph.ops)
    return Counter(kind.removeprefix("aten.").removesuffix(".default") for kind in kinds)


def test_op_lists() -> None:
    """Those of the CPU's build must be those of a card's (`benchmarks/card_graphs.py`)."""
    block, x = Block().to(torch.bfloat16), torch.randn(2, 16, 32, dtype=torch.bfloat16)
    lists = {card: names(on(card, block, x)) for card in ("t4", "a100", "h100")}
    fused = {card: {name for name in found if "attention" in name} for card, found in lists.items()}
    flash, cudnn = "_scaled_dot_product_flash_attention", "_scaled_dot_product_cudnn_attention"
    assert fused == {
        "t4": set(),
        "a100": {flash, f"{flash}_backward"},
        "h100": {cudnn, f"{cudnn}_backward"},
    }
    for found in lists.values():
        assert found["_fused_rms_norm"] == found["_fused_rms_norm_backward"] == 1
        assert found["silu"] == found["silu_backward"] == 1
    # In halves the scores are computed in full precision, and again by their gradient.
    assert lists["t4"]["_safe_softmax"] == lists["t4"]["_softmax_backward_data"] == 1
    assert lists["t4"]["_to_copy"] == 8
    assert lists["t4"]["bmm"] == 6
    assert sum(lists["a100"].values()) == sum(lists["h100"].values()) == 22
    assert sum(lists["t4"].values()) == 54


def test_saved_statistics_are_the_kernels() -> None:
    block, x = Block().half(), torch.randn(2, 10, 32, dtype=torch.float16)
    efficient, flash = on("t4", block, x), on("a100", block, x)
    specs = [{value.spec for value in c.graph.values} for c in (efficient, flash)]
    assert "f32[2, 2, 32]" in specs[0]  # rows rounded up to a multiple of 32
    assert "f32[2, 2, 10]" in specs[1]
    assert efficient.kernels == {"efficient": 1} and flash.kernels == {"flash": 1}


def test_masks_and_groups() -> None:
    x = torch.randn(2, 12, 32, dtype=torch.float16)
    mask = torch.ones(12, 12, dtype=torch.bool).tril()
    masked = on("a100", Block().half(), x, mask)
    assert masked.kernels == {"efficient": 1}
    assert names(masked)["constant_pad_nd"] == 1  # rows of 12 become rows of 16
    grouped = Block(groups=1).half()
    assert on("t4", grouped, x).kernels == {"math": 1}
    assert on("a100", grouped, x).kernels == {"flash": 1}


def test_heads_are_padded_for_flash() -> None:
    block, x = Block(24).half(), torch.randn(2, 16, 24, dtype=torch.float16)
    captured = on("l4", block, x)
    assert captured.kernels == {"flash": 1}
    assert names(captured)["constant_pad_nd"] >= 3


def test_a_conv_net_is_the_cpus() -> None:
    net, x = conv_net(), torch.randn(2, 3, 8, 8)
    here = capture(net, (x,))
    there = on("a100", net, x)
    assert there.device == "cuda:0" and there.fake and here.device == "cpu"
    assert there.graph.fingerprint == here.graph.fingerprint


def test_the_model_is_not_touched() -> None:
    net, x = conv_net().eval(), torch.randn(2, 3, 8, 8, requires_grad=True)
    before = {name: (id(t), t.clone()) for name, t in net.state_dict(keep_vars=True).items()}
    on("t4", net, x)
    after = net.state_dict(keep_vars=True)
    assert {name: id(t) for name, t in after.items()} == {n: i for n, (i, _) in before.items()}
    assert all(t.is_cpu and t.equal(before[name][1]) for name, t in after.items())
    assert x.is_cpu and x.grad is None and not net.training
    assert not is_pretended()


def test_shared_memory_is_shared_in_the_twin() -> None:
    flat = torch.randn(12)
    net = nn.Linear(3, 4, bias=False)
    net.register_buffer("whole", flat)
    net.register_buffer("part", flat[4:8])
    net.register_buffer("bits", flat.view(torch.int32)[2:])
    net.register_parameter("again", net.weight)
    twin = CardTwin.of(net, (flat,)).model
    assert twin.again is twin.weight and isinstance(twin.weight, nn.Parameter)
    assert storage_id(twin.whole) == storage_id(twin.part) == storage_id(twin.bits)
    assert (twin.part.storage_offset(), twin.bits.dtype) == (4, torch.int32)
    assert twin.whole.untyped_storage().nbytes() == 48
    assert {t.device.type for t in twin.state_dict(keep_vars=True).values()} == {"cuda"}


def test_a_loss_function_and_a_backward_before() -> None:
    torch.ones(2, requires_grad=True).sum().backward()  # the engine has counted its devices

    def of_output(y: torch.Tensor) -> torch.Tensor:
        return y.square().mean()

    net, x = nn.Linear(8, 4), torch.randn(3, 8)
    assert on("t4", net, x, loss=of_output).loss is of_output
    with_target = Target()
    captured = on("t4", net, x, loss=with_target)
    assert captured.loss is with_target and with_target.wanted.is_cpu


def test_autocast_of_the_cpu_stands_for_the_cards() -> None:
    block, x = Block(), torch.randn(2, 16, 32)
    with torch.autocast("cpu", dtype=torch.float16):
        captured = on("a100", block, x)
        assert torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda")
    assert captured.kernels == {"flash": 1}
    assert ("cuda", True, torch.float16) in captured.state.autocast


def test_autocast_of_the_card_in_the_forward() -> None:
    class Cast(Block):
        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            with torch.autocast("cuda", dtype=torch.bfloat16):
                return super().forward(x, mask).float()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captured = on("a100", Cast(), torch.randn(2, 16, 32))
    assert captured.kernels == {"flash": 1}


def test_a_model_on_cuda_needs_a_card() -> None:
    twin = CardTwin.of(Block(), (torch.randn(2, 16, 32),))
    with pytest.raises(InvalidArgument, match="card='t4'"):
        capture(twin.model, twin.args)
    assert on("t4", twin.model, *twin.args).kernels == {"efficient": 1}


def test_what_cannot_be_copied_is_refused() -> None:
    net = nn.Linear(2, 2)
    net.stream = (n for n in range(3))  # type: ignore[assignment]
    with pytest.raises(InvalidArgument, match="cannot be planned for a card from here"):
        on("t4", net, torch.ones(1, 2))


def test_off_where_the_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_form, "why_no_card", lambda: "the check ended with -6")
    with pytest.warns(CardWarning, match="planned for the CPU's kernels"):
        captured = on("t4", nn.Linear(2, 2), torch.ones(1, 2))
    assert captured.device == "cpu" and captured.card is None


def test_the_check_finds_a_wrong_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_no_card() is None
    why_no_card.cache_clear()
    monkeypatch.setattr("sys.executable", "/bin/false")
    try:
        assert "ended with 1" in str(why_no_card())
    finally:
        why_no_card.cache_clear()


def test_nothing_is_left_behind() -> None:
    op = torch.ops.aten.scaled_dot_product_attention.default
    before = dict(op.py_kernels)
    with as_on("h100"):
        assert is_pretended() and op.py_kernels != before
    assert dict(op.py_kernels) == before
    x = torch.ones(3, requires_grad=True)
    x.square().sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0, 2.0]
