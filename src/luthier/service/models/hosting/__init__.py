"""Models that engine hosts serve: which host has one, and what is asked of it."""
