"""Files to packed batches of tokens."""
