"""A whole file: every problem, and what only shows when rows are compared."""
