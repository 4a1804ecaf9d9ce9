"""Shell completion of ids and names, asked of the service within a second."""
