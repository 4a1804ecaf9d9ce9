"""Queries on what waits for a node."""
