"""Start a run's trainer, query it, stop it: implementations of core.training.executor_port.Executor.

No database: a run is its directory, and its process is found again by its handle.
"""
