"""What a step weighs and costs: bytes, nanoseconds, and the allocator that is their judge."""
