"""Simulated annealing over orders: the search, its cooling runs, its compiled kernels."""
