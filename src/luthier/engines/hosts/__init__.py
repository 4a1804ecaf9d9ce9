"""Calls of engine hosts over HTTP; the other end is `luthier.engine_host`."""
