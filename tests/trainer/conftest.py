"""The fixtures of real runs: a tiny base model, and run directories on it."""

from run_fixtures import base, make_run

__all__ = ["base", "make_run"]
