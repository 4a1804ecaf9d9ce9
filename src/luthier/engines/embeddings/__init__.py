"""Embedding models: a process per model with llama.cpp's server, its client, and the check that served = stored."""
