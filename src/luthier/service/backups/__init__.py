"""Backups of a data folder: what is in one, the archive, and its way back."""
