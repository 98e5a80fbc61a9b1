"""Pictures of plans and sweeps draw what their data say, which is what the referee says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pebble
from pebble.plan.plots import bound_steps, plot_memory, plot_tradeoff
from pebble.plan.schedule_plots import plot_matrices, plot_modules, plot_timeline
from pebble.plan.sweeps import sweep
from tests.plan.planned import tower_plan

pytestmark = pytest.mark.usefixtures("one_thread")
PICTURES: dict[str, Any] = {
    "memory": plot_memory,
    "timeline": plot_timeline,
    "modules": plot_modules,
    "matrices": plot_matrices,
}


@pytest.fixture
def plt() -> Iterator[Any]:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_draws_on_the_axes_it_is_given(name: str, plt: Any) -> None:
    ax = plt.figure().subplots()
    assert PICTURES[name](tower_plan(), ax=ax) is ax
    assert ax.get_title()
    assert ax.has_data()
    assert tower_plan().plot(name, ax=plt.figure().subplots()).get_title() == ax.get_title()


@pytest.mark.parametrize("name", PICTURES)
def test_the_legend_hides_nothing(name: str, plt: Any) -> None:
    """It lies below the picture and the label of its axis, and within the figure."""
    ax = PICTURES[name](tower_plan())
    ax.figure.canvas.draw()
    legend, label = ax.get_legend().get_window_extent(), ax.xaxis.label.get_window_extent()
    assert legend.y1 <= label.y0 < ax.get_window_extent().y0
    assert legend.y0 >= 0
    assert 0 <= legend.x0 < legend.x1 <= ax.figure.bbox.x1


@pytest.mark.parametrize("name", ["memory", "timeline", "matrices"])
def test_ops_are_counted_in_whole_numbers(name: str, plt: Any) -> None:
    ax = PICTURES[name](tower_plan())
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


@pytest.mark.parametrize("name", PICTURES)
def test_the_data_are_plain(name: str) -> None:
    data = PICTURES[name].data(tower_plan())
    assert json.loads(json.dumps(data)) == data


def test_memory_is_the_replay() -> None:
    plan = tower_plan()
    data = plot_memory.data(plan, measured=np.arange(7.0))
    assert max(data["planned"]) == plan.peak_bytes
    assert max(data["unplanned"]) == plan.baseline_peak_bytes
    assert len(data["unplanned"]) == len(data["unplanned_step"])
    assert data["measured"] == list(range(7))
    places = data["measured_step"]
    assert places == sorted(places)
    assert places[0] == 0
    assert len(plan.schedule) - 1 <= places[-1] < len(plan.schedule)


def test_a_measured_step_stands_where_it_was_predicted() -> None:
    plan = tower_plan()
    found = plan.validate(repeats=1)
    data = plot_memory.data(plan, measured=found)
    assert data == plot_memory.data(plan, measured=found.measured_curve)
    with pytest.raises(pebble.InvalidArgument, match="measured is str; pass what plan.validate"):
        plot_memory.data(plan, measured="curve")
    most = int(np.argmax(data["measured"]))
    assert data["measured"][most] == plan.peak_bytes
    assert int(data["measured_step"][most]) in np.flatnonzero(
        plan.trace.live + plan.resident.total == plan.peak_bytes
    ) + np.array([[-1], [0], [1]])


def test_the_lines_are_the_data(plt: Any) -> None:
    plan = tower_plan()
    ax = plot_memory(plan, measured=np.full(5, plan.peak_bytes))
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    scale = 1e6 if "MB" in ax.get_ylabel() else 1e3
    for label in ("no plan", "measured", "budget", "no plan can go below"):
        assert label in lines
    planned = next(y for label, y in lines.items() if label.startswith("this plan"))
    assert max(planned) * scale == pytest.approx(plan.peak_bytes)
    assert lines["budget"][0] * scale == pytest.approx(plan.budget_bytes)


def test_the_timeline_adds_up_to_what_is_live() -> None:
    plan = tower_plan()
    data = plot_timeline.data(plan, columns=10**6)
    order = plan.schedule.order
    workspaces = [plan.problem.graph.ops[op].workspace for op in order]
    held = np.sum(data["bytes"], axis=0) + workspaces
    assert held.tolist() == plan.trace.live.tolist()
    assert data["what"].count(2) == sum(plan.recomputed.values())


def test_the_modules_add_up_to_the_peak() -> None:
    plan = tower_plan()
    data = plot_modules.data(plan)
    planned = sum(sum(kinds.values()) for kinds in data["planned"].values())
    unplanned = sum(sum(kinds.values()) for kinds in data["unplanned"].values())
    assert planned == plan.trace.peak
    assert unplanned == plan.baseline.peak
    assert sum(data["resident"].values()) == plan.resident.total


def test_the_matrices_are_the_schedules() -> None:
    plan = tower_plan()
    graph = plan.problem.graph
    r = plan.schedule.r_matrix(len(graph.ops))
    drawn = np.array(plot_matrices.data(plan)["raster"])
    assert ((drawn > 0) == (r > 0)).all()
    assert (drawn == 2).sum() == sum(plan.recomputed.values())
    s = np.array(plot_matrices.data(plan, matrix="S")["raster"])
    assert (s == plan.schedule.s_matrix(graph)).all()


def test_wrong_names_list_the_choices() -> None:
    with pytest.raises(pebble.InvalidArgument, match="matrix is 'T'; choose one of 'R', 'S'"):
        plot_matrices(tower_plan(), matrix="T")
    with pytest.raises(pebble.InvalidArgument, match="what is 'graph'; choose one of 'memory'"):
        tower_plan().plot("graph")


def test_no_point_of_a_sweep_lies_where_none_can_be(plt: Any) -> None:
    graph = tower_plan().problem.graph
    found = sweep(graph, budgets=4, solvers=("greedy", "priced"), time_limit=4)
    data = plot_tradeoff.data(found, peers={"peer": (graph.total_cost, 0.4)})
    assert data["bound"]
    for points in data["solvers"].values():
        for peak, overhead in points:
            assert peak >= data["bound_bytes"]
            for low, high, least in data["bound"]:
                assert not (low < peak <= high and overhead < least - 1e-9)
    heights = [overhead for _, _, overhead in data["bound"]]
    assert heights == sorted(heights, reverse=True)
    ax = plot_tradeoff(found, peers={"peer": (10**5, 0.4)})
    assert "proved: no schedule fits" in [t.get_text() for t in ax.get_legend().get_texts()]
    assert bound_steps((), 5) == []
