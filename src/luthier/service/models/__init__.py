"""Models, checkpoints and their deployments."""
