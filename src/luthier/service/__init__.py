"""Use cases. They open transactions, hold ports, know no HTTP, nor which implementation stands behind a port."""
