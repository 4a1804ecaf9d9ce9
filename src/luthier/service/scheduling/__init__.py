"""Whose answer is computed next, within which bounds of context."""
