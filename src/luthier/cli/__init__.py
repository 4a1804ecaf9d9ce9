"""Every command: parse, one call, print. Clients of the public API through the openai SDK, but `serve` and `pull`."""
