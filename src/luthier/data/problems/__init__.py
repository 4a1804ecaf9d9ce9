"""Findings of validation: what, on which line, at which place, and grouped."""
