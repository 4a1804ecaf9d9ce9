"""`make bench-serve`: both engines through the service and without it, side by side."""
