"""What a caller's URL names, fetched or posted to without server-side request forgery (SSRF): imports and webhooks."""
