"""Client commands: one module per noun of the API."""
