"""What a caller's URL names, fetched without SSRF."""
