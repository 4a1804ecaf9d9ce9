"""Base weights, adapters and tokenizers to GGUF."""
