"""Exports of tuned models: asked for, kept for a while, downloaded. `background/export_worker.py` has them made."""
