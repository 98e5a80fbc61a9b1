"""Graphs of the literature: families, netlists, files."""
