"""The run directory: the whole contract between the service and the trainer. `docs/run-directory.md` describes it."""
