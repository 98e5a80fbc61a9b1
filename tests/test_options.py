"""Options are checked in one place, and a record of them comes back from plain data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pebble.errors import InvalidArgument, UnknownSolver
from pebble.options import SearchOptions, StepOptions
from pebble.record import DEFAULT_LOSS, StepRecord


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"outputs": "logits"}, "outputs is 'logits'; choose one of 'all', 'loss'"),
        ({"accumulation_steps": 0}, "accumulation_steps is 0; it must be a positive integer"),
        ({"accumulation_steps": True}, "accumulation_steps is True"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"costs": 5}, "costs is 5; pass 'auto'"),
        ({"acumulation_steps": 2}, "A step has no option 'acumulation_steps'; choose from"),
    ],
)
def test_a_wrong_option_of_a_step_gets_a_sentence(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        StepOptions.of(**options)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"time_limit": "5"}, InvalidArgument),
        ({"time_limit": float("inf")}, InvalidArgument),
        ({"time_limit": -1}, InvalidArgument),
        ({"seed": 0.5}, InvalidArgument),
        ({"chunked_loss": 1}, InvalidArgument),
        ({"chunked_loss": True}, InvalidArgument),
        ({"solver": "magic"}, UnknownSolver),
    ],
)
def test_a_wrong_option_of_a_search_is_refused(options: dict[str, Any], kind: type) -> None:
    with pytest.raises(kind):
        SearchOptions.of(**options)


def test_what_is_no_option_of_the_search_is_the_solver_s() -> None:
    options = SearchOptions.of(seed=3, order="fixed")
    assert (options.seed, options.solver_options) == (3, {"order": "fixed"})


def mean(outputs: Any) -> Any:
    return outputs.mean()


def test_a_record_comes_back_from_plain_data() -> None:
    options = StepOptions(
        optimizer="sgd", loss=mean, costs=[1, 2], outputs="all", chunks=4, accumulation_steps=2
    )
    record = StepRecord("Net", "cpu", 2, "2.13.0", {"args": []}).made_with(options)
    assert (record.loss, record.costs, record.chunks) == ("mean", "given", 4)
    again = StepRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert again == record
    assert again.options(loss=mean, costs=[1, 2]) == options


def test_an_older_file_says_less() -> None:
    record = StepRecord.from_json({"model": "Net", "optimizer": None})
    assert (record.loss, record.outputs, record.chunks) == (DEFAULT_LOSS, "all", 0)
    assert record.accumulation_steps == 1
