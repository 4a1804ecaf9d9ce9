"""The trainer: a process that turns a run directory into checkpoints. Torch lives here; no database, no HTTP."""
