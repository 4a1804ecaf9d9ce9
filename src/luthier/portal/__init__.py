"""The portal: server-rendered pages over the same use cases as the API, and scripts that call the public API."""
