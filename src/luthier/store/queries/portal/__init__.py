"""Queries for the portal alone: sessions of signed-in callers, and the search among jobs."""
