"""What a rank of a distributed run keeps beside its step, as far as torch is not needed to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Buckets(StrEnum):
    """How DistributedDataParallel keeps its gradient buckets."""

    COPIES = "copies"  # the default: buckets beside the gradients
    VIEWS = "views"  # gradient_as_bucket_view=True: the gradients are the buckets


@dataclass(frozen=True)
class Ranks:
    """How the ranks of a run share the work on a model.

    Attributes
    ----------
    buckets : Buckets or None
        None: no DistributedDataParallel.
    broadcasts_buffers : bool
        Buffers are sent from rank 0 before each forward, in one flat copy.
    hands_copies : bool
        DistributedDataParallel hands over copies of the outputs (find_unused_parameters,
        static_graph).
    tracks_use : bool
        It notes which parameters were used (find_unused_parameters).
    sharded : bool
        Parameters are sharded; what that takes is counted by whoever planned it so.
    """

    buckets: Buckets | None = None
    broadcasts_buffers: bool = False
    hands_copies: bool = False
    tracks_use: bool = False
    sharded: bool = False


ALONE = Ranks()
REPLICAS = Ranks(Buckets.COPIES, broadcasts_buffers=True)
"""As DistributedDataParallel is by default."""
