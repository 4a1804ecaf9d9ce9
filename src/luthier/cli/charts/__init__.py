"""Charts of a job's metrics: in the terminal, live or overlaid, and as an image file."""
