"""The picture of a family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pebble.axes import LINES, Data, axes_for, legend_below, picture
from pebble.formatting import gigabytes

if TYPE_CHECKING:
    from pebble.plan.families.family import Family

_LENGTHS = 48


def family_data(family: Family) -> Data:
    """What `plot_family` draws.

    Returns
    -------
    dict
        ``lengths``; ``largest``: for each schedule the largest batch of each length that it holds
        within the budget, the first of them without recomputation; ``least_batch``.
    """
    lengths = family.table_lengths(_LENGTHS)
    largest = [list(map(int, family.largest(n))) for n in lengths]
    return {
        "model": family.record.model,
        "budget_bytes": family.budget_bytes,
        "lengths": list(map(int, lengths)),
        "largest": [list(each) for each in zip(*largest)],
        "least_batch": int(family.batches[0]),
    }


@picture(family_data, "pebble.family Family")
def plot_family(family: Family, *, ax: Any = None) -> Any:
    """The largest batch of every length within the budget, one colour for each schedule.

    Where several schedules fit, the colour is that of the cheapest.

    Parameters
    ----------
    family : Family
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = axes_for(ax, (7, 4.5))
    data = family_data(family)
    lengths, largest = data["lengths"], data["largest"]
    below = [data["least_batch"] - 1.0] * len(lengths)
    for k in sorted(range(len(largest)), key=lambda k: largest[k][-1]):
        tops = [max(float(most), low) for most, low in zip(largest[k], below)]
        if tops == below:
            continue
        colour = LINES[k % len(LINES)][0]
        label = "nothing recomputed" if k == 0 else f"schedule {k}"
        alpha = 0.9 if k < len(LINES) else 0.5
        if len(lengths) > 1:
            ax.fill_between(
                lengths, below, tops, color=colour, alpha=alpha, label=label, step="mid"
            )
        else:
            ax.bar(0, tops[0] - below[0], bottom=below[0], color=colour, alpha=alpha, label=label)
        below = tops
    ax.set(
        xlabel="length",
        ylabel="batch",
        yscale="log" if below[0] > 16 else "linear",
        title=f"{family.record.model} within {gigabytes(family.budget_bytes)}",
    )
    legend_below(ax, 4)
    return ax
