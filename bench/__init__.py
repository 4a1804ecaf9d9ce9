"""Measures Luthier's trainer beside TRL's: `make bench-train`. Nothing of the service imports this."""
