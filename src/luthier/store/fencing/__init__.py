"""The database as the holder of a lease may use it."""
