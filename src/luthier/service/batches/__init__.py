"""Batches: requests in a file, answered into a file when no live caller needs the engine."""
