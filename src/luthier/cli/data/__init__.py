"""Commands on data files, without a service."""
