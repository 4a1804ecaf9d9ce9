"""What a caller's URL names, fetched without server-side request forgery (SSRF): for files that are imported by URL."""
