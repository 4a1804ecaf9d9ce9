"""A base model's tokenizer without torch, and texts that cannot become control tokens."""
