"""What a card reserves: torch's caching allocator simulated, fed with what a schedule allocates."""
