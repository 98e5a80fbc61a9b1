"""Strategies by construction and local search: legal and cheap, without a bound."""
