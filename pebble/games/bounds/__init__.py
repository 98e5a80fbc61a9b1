"""Lower bounds that hold for any strategy."""
