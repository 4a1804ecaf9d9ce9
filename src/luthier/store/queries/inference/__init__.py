"""Queries on what models have answered."""
