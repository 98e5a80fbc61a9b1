"""Changes of schedules: what is computed again, what is kept, in which order."""
