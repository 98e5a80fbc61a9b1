"""Pictures of strategies."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument
from pebble.games import Reversible, least_cost, make_graph, pareto_front


def test_plots() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    from pebble.games import plotting

    result = least_cost(make_graph("path:8"), Reversible(), 4)
    matrix = plotting.strategy_matrix(result)
    assert matrix.shape == (8, 26)
    assert matrix[:, 0].sum() == 0
    assert (matrix > 0).sum(axis=0).max() == 4
    assert matrix.max() == 2
    for draw in (plotting.plot_strategy, plotting.plot_pebbles):
        axes = plt.figure().subplots()
        assert draw(result, ax=axes) is axes
    assert plotting.plot_front(pareto_front(make_graph("path:4"), Reversible())).get_xlabel()
    assert plotting.plot_board(result, 3) is not None
    with pytest.raises(InvalidArgument, match="no move 99"):
        plotting.plot_board(result, 99)
    with pytest.raises(InvalidArgument, match="no strategy to draw"):
        plotting.plot_strategy(least_cost(make_graph("path:8"), Reversible(), 2))
    plt.close("all")


def test_pictures_give_their_data() -> None:
    from pebble.games import plotting

    result = least_cost(make_graph("path:8"), Reversible(), 4)
    data = plotting.plot_strategy.data(result)
    assert len(data["nodes"]) == len(data["matrix"]) == 8
    assert max(plotting.plot_pebbles.data(result)["pebbles"][0]) == 4
    front = plotting.plot_front.data(pareto_front(make_graph("path:4"), Reversible()))[""]
    assert [point["pebbles"] for point in front] == sorted(point["pebbles"] for point in front)
    assert plotting.plot_board.data(result, 0)["kinds"] == [0] * 8
    walk = plotting.step_through(result)
    assert len(walk) == 26
    assert walk[0].split()[1] == "........"
