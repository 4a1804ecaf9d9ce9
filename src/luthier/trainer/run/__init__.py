"""What a run writes: events, checkpoints, resume state, results, provenance."""
