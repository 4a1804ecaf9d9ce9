"""Uploaded files: stored, fetched, checked, reported on."""
