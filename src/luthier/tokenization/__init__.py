"""Reads a base model's tokenizer without torch, and tokenizes texts that must not become control tokens."""
