"""An account elsewhere, read and brought here: files, jobs, what they did. Nothing is ever sent to it."""
