"""Known values as functions. Each names its source; heights are in edges."""

from pebble.games.literature.black_values import (
    bipartite_stack_pebbles,
    bit_reversal_pebbles,
    black_white_pebbles,
    butterfly_pebbles,
    grid_pebbles,
    in_tree_pebbles,
    pyramid_pebbles,
    tree_pebbles,
)
from pebble.games.literature.checkpoint_counts import (
    binomial_reach,
    mixed_steps,
    revolve_steps,
    sqrt_segments,
    training_chain_placements,
)
from pebble.games.literature.reversible_values import (
    bennett_line,
    edge_rank,
    line_moves,
    line_pebbles,
    reversible_moves,
)
from pebble.games.literature.transfers import butterfly_transfers, matrix_product_transfers

__all__ = [
    "bennett_line",
    "binomial_reach",
    "bipartite_stack_pebbles",
    "bit_reversal_pebbles",
    "black_white_pebbles",
    "butterfly_pebbles",
    "butterfly_transfers",
    "edge_rank",
    "grid_pebbles",
    "in_tree_pebbles",
    "line_moves",
    "line_pebbles",
    "matrix_product_transfers",
    "mixed_steps",
    "pyramid_pebbles",
    "reversible_moves",
    "revolve_steps",
    "sqrt_segments",
    "training_chain_placements",
    "tree_pebbles",
]
