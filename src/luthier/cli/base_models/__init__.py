"""Base models fetched and prepared."""
