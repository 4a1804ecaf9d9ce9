"""Chat templates, rendered in a sandbox within a limit of steps and characters."""
