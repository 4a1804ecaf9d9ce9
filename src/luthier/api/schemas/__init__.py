"""What answers look like, as JSON Schema, for `GET /openapi.json`: documentation that tests hold to the truth."""
