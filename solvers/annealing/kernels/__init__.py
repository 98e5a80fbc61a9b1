"""What numba compiles; nothing here is imported before the first trial is wanted."""
