"""The queue before each engine: whose answer is computed next, in which slot, within which bounds of context."""
