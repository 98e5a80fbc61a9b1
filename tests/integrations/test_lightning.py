"""A Lightning Trainer within a budget ends with the numbers of the Trainer without one."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument
from pebble.integrations.lightning import PebbleCallback
from pebble.integrations.training_step import without_unread
from pebble.measure.allocator import trace_memory
from pebble.runtime.planned_method import PlannedMethod
from pebble.tracing.torch_private.storages import storage_bytes

lightning = pytest.importorskip("lightning.pytorch")
pytestmark = [
    pytest.mark.usefixtures("one_thread", "seeded"),
    pytest.mark.filterwarnings("ignore:.*(does not have many workers|lower value for log)"),
]

ROWS, WIDTH, CLASSES = 10, 8, 3
QUICK: dict[str, Any] = {"chunked_loss": False, "display": False, "time_limit": 1}


def layers() -> nn.Sequential:
    blocks = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Dropout(0.2)) for _ in range(6)]
    return nn.Sequential(*blocks, nn.Linear(WIDTH, CLASSES))


class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.net = layers()

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        out = self(x)
        loss = nn.functional.cross_entropy(out, y)
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log_dict({"accuracy": (out.argmax(-1) == y).float().mean(), "rate": 0.5})
        return {"loss": loss, "outputs": out.detach()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("validation", nn.functional.cross_entropy(self(x), y))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Item(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("loss", loss.item())
        return loss


class Manual(Net):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        optimizer = self.optimizers()
        loss = nn.functional.cross_entropy(self.net(x), y)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss)


class Counted(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y) * (1 + batch_idx)


class Logged(lightning.Callback):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.steps.append({k: float(v) for k, v in trainer.logged_metrics.items()})


class Weighed(lightning.Callback):  # type: ignore[misc, name-defined]
    """Bytes of every training step after the first epoch, in which plans are made."""

    def __init__(self) -> None:
        self.peaks: list[int] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        name = "automatic_optimization" if module.automatic_optimization else "manual_optimization"
        own = getattr(loop, name).run

        def run(*args: Any) -> Any:
            if trainer.current_epoch == 0:
                return own(*args)
            states = [s for o in trainer.optimizers for s in o.state.values()]
            held = [*module.parameters(), *module.buffers(), *args[-1]["batch"]]
            held += [p.grad for p in module.parameters() if p.grad is not None]
            held += [t for s in states for t in s.values()]
            before = storage_bytes(t for t in held if torch.is_tensor(t))
            del held
            traced = trace_memory(partial(own, *args))
            self.peaks.append(before + traced.peak)
            return traced.result

        getattr(loop, name).run = run


def batches(rows: int = ROWS, size: int = 4) -> Any:
    made = torch.Generator().manual_seed(0)
    x = torch.randn(rows, WIDTH, generator=made)
    y = torch.randint(0, CLASSES, (rows,), generator=made)
    data = torch.utils.data.TensorDataset(x, y)
    return torch.utils.data.DataLoader(data, batch_size=size)


def make_trainer(callbacks: list[Any], framework: Any = lightning, **options: Any) -> Any:
    quiet = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger")
    settings: dict[str, Any] = dict.fromkeys(quiet, False) | {"max_epochs": 2} | options
    return framework.Trainer(
        accelerator="cpu", devices=1, log_every_n_steps=1, callbacks=callbacks, **settings
    )


def fit(
    make: Callable[[], Any], callbacks: list[Any], resume: Any = None, rows: int = ROWS, **o: Any
) -> tuple[Any, list[dict[str, float]]]:
    torch.manual_seed(0)
    module, logged = make(), Logged()
    trainer = make_trainer([logged, *callbacks], **o)
    torch.manual_seed(1)
    size = 4 if rows < 100 else 64
    trainer.fit(module, batches(rows, size), batches(4), ckpt_path=resume)
    return module, logged.steps


def check(
    make: Callable[[], Any] = Net, room: int = 10**9, tight: bool = True, **options: Any
) -> PebbleCallback:
    """Both fits, with the same seed; gives back the callback."""
    callback, weighed = PebbleCallback(budget_bytes=room, **QUICK), Weighed()
    plain, steps = fit(make, [], **options)
    planned, same_steps = fit(make, [callback, weighed], **options)
    assert steps == same_steps
    first, second = plain.state_dict(), planned.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert vars(plain).keys() == vars(planned).keys()
    assert type(planned) is make
    assert 0.9 * room * tight < max(weighed.peaks) <= room
    status = callback.status
    assert status is not None
    assert status.planned_calls == len(steps)
    assert status.unplanned_calls == 0
    return callback


def test_a_fit_keeps_its_budget_its_logs_and_its_numbers() -> None:
    callback = check(room=40_000, rows=150)  # 64, 64 and 22; everything kept takes more
    assert callback.status is not None
    assert callback.status.plans_made == 2
    assert callback.status.scope == ""
    assert callback.loop is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "options"),
    [
        (27_000, {"precision": "bf16-mixed"}),
        (42_000, {"accumulate_grad_batches": 2}),
        (40_000, {"gradient_clip_val": 0.1}),
    ],
    ids=["bf16", "accumulation", "clipping"],
)
def test_every_loop_is_the_unplanned_one(room: int, options: dict[str, Any]) -> None:
    check(room=room, rows=150, **options)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Item, Manual], ids=["item", "manual"])
def test_what_is_no_single_graph_has_its_modules_planned(make: Any) -> None:
    callback = check(make, room=42_000, tight=make is Item, rows=150)
    assert callback.status is not None
    assert "planned inside the training step" in str(callback.status)


@pytest.mark.slow
def test_a_batch_index_that_is_read_needs_no_plan_for_each_of_its_values() -> None:
    callback = check(Counted, tight=False, rows=26)
    assert callback.status is not None
    assert "changed" in callback.status.scope


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    keep: dict[str, Any] = {"default_root_dir": tmp_path, "enable_checkpointing": True}
    saving = lightning.callbacks.ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, save_last=True)
    fit(Net, [PebbleCallback(budget_bytes=10**9, **QUICK), saving], max_epochs=1, **keep)
    saved = str(tmp_path / "last.ckpt")
    plain, steps = fit(Net, [], saved)
    planned, same_steps = fit(Net, [PebbleCallback(budget_bytes=10**9, **QUICK)], saved)
    assert steps == same_steps
    first, second = plain.state_dict(), planned.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_is_a_callback_of_both_packages() -> None:
    other = pytest.importorskip("pytorch_lightning")
    callback = PebbleCallback(budget_gb=1)
    for framework in (lightning, other):
        assert isinstance(callback, framework.Callback)
        assert make_trainer([callback], framework).callbacks[0] is callback
    assert repr(callback) == "PebbleCallback(budget_gb=1)"
    assert callback.status is None


@pytest.mark.slow
def test_the_other_package_trains_as_well() -> None:
    other = importlib.import_module("pytorch_lightning")
    kind = type(
        "Net", (other.LightningModule,), {k: v for k, v in vars(Net).items() if k[0] != "_"}
    )

    def make() -> Any:
        module = other.LightningModule.__new__(kind)
        other.LightningModule.__init__(module)
        module.net = layers()
        return module

    found = []
    for callbacks in ([], [PebbleCallback(budget_gb=1, **QUICK)]):
        torch.manual_seed(0)
        module = make()
        make_trainer(callbacks, other).fit(module, batches(), batches(4))
        found.append(module.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    status = callbacks[0].status
    assert status is not None
    assert status.planned_calls == 6


def test_numbers_that_a_step_does_not_read_need_no_plan() -> None:
    assert without_unread(Net(), ("batch", 7)) == ("batch", 0)
    assert without_unread(Counted(), ("batch", 7)) == ("batch", 7)


def test_what_the_trainer_knows_is_not_asked() -> None:
    trainer = make_trainer([PebbleCallback(budget_gb=1, optimizer="sgd")])
    with pytest.raises(InvalidArgument, match="reads optimizer from the Trainer"):
        trainer.fit(Net(), batches())


def test_copies_of_the_module_have_their_own_step() -> None:
    module = Net()
    planned = pebble.budgeted(layers(), budget_gb=1)
    method = PlannedMethod(module, "training_step", lambda *_: "planned", planned)
    assert module.training_step() == "planned"
    assert pebble.status(module) == pebble.status(planned)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.training_step.__func__ is Net.training_step
        assert twin.training_step.__self__ is twin
    method.leave()
    assert "training_step" not in vars(module)
