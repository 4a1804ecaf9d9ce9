"""A base model's files as they come from elsewhere, validated before any library opens them."""
