"""What `luthier engine-host` serves: models for API processes, over HTTP of its own (docs/engine-hosts.md)."""
