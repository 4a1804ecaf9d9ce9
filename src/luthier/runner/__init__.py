"""A run on a node without the service's disk: builds the run directory, runs the trainer, ships what it writes.

A process per attempt, started by a cluster's scheduler: no database, no torch of its own. docs/run-directory.md has the
shipped form, docs/ray.md how it is started.
"""
