"""Answers that take time: event streams and downloads."""
