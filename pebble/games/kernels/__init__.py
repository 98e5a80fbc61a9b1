"""Kernels: the compiled inner loops of searches and constructions.

Only `pebble.compiling` knows numba. Who uses a kernel imports it late.
"""
