"""Blocks are the repeated parts of a model, and do not overlap."""

from __future__ import annotations

import torch
from torch import nn

from pebble.measure.blocks import block_levels, is_recurrent, parameters_fingerprint, reason_against


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Sequential(Residual(), Residual()), nn.Sequential(Residual(), Residual())
        )


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.rnn = nn.LSTM(4, 4, 2)
        self.head = nn.Linear(4, 2)


def test_stages_are_looked_into_and_repeated_parts_are_not() -> None:
    assert block_levels(Detector())[0] == (
        "backbone.stages.0.0",
        "backbone.stages.0.1",
        "backbone.stages.1.0",
        "backbone.stages.1.1",
        "rnn",
    )


def test_a_module_that_stands_in_two_places_is_one_block() -> None:
    model = nn.ModuleDict()
    model["a"] = model["b"] = Residual()
    assert block_levels(model)[0] == ("a",)


def test_levels_become_finer_and_never_overlap() -> None:
    for names in block_levels(Detector()):
        assert not any(b.startswith(f"{a}.") for a in names for b in names)
    assert "backbone.stages.0.0.inner" in block_levels(Detector())[1]


def test_only_networks_of_several_layers_run_layer_by_layer() -> None:
    assert is_recurrent(nn.GRU(2, 2, 2))
    assert not is_recurrent(nn.GRU(2, 2))
    assert not is_recurrent(nn.Linear(2, 2))


def test_hooks_inside_speak_against_a_block_and_hooks_on_it_do_not() -> None:
    block = Residual()
    block.register_forward_hook(lambda *call: None)
    assert reason_against(block) is None
    block.inner[0].register_forward_hook(lambda *call: None)
    assert "hooks" in str(reason_against(block))


def test_the_fingerprint_sees_shapes_and_what_is_frozen() -> None:
    model = nn.Linear(4, 2)
    first = parameters_fingerprint(model)
    assert first == parameters_fingerprint(nn.Linear(4, 2))
    assert first != parameters_fingerprint(nn.Linear(4, 3))
    model.bias.requires_grad_(False)
    assert first != parameters_fingerprint(model)
    assert first != parameters_fingerprint(nn.Linear(4, 2, dtype=torch.float64))
