"""Queries on what is sent to other programs."""
