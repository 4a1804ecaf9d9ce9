"""Training without a service, and a run repeated."""
