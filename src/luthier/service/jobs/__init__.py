"""Fine-tuning jobs and their runs."""
