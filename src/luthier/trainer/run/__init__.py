"""What a run writes into its directory: events, results, checkpoints with their provenance, resume points."""
