"""Queries on what is asked of models and kept."""
