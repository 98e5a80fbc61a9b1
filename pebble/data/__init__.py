"""Batches of samples of any length that fill a memory budget."""

from pebble.data.batch_sampler import BudgetBatchSampler
from pebble.data.padding import pad_collate

__all__ = ["BudgetBatchSampler", "pad_collate"]
