"""Bodies of the Responses API: what clients send, and the same as the service's values."""
