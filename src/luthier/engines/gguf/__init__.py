"""Base weights, LoRA adapters and tokenizers to GGUF, the file format of llama.cpp."""
