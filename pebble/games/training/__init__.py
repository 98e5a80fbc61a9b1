"""Training steps and games: schedules as strategies, offloading, checkpointing."""
