"""Bytes to examples to tokens: pure, without torch and without I/O of its own."""
