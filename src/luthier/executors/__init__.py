"""Start a run's trainer, query it, stop it: implementations of core.ports.Executor.

No database: a run is its directory, and its process is found again by its handle.
"""
