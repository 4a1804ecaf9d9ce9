"""Start a run, query it, stop it. No database: a run is its directory, and is found again by its handle."""
