"""Start a run, look at it, stop it. No database: a run is its directory, and is found again by its handle."""
