"""The wire dialects as values: statuses, errors, shapes."""
