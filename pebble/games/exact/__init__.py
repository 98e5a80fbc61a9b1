"""Exact engines: they find least values, and prove them."""
