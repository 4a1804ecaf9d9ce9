"""Bodies as bytes: limits, streaming, multipart, JSON."""
