"""Luthier's own engine: a decoder in C++ that mixes adapters, prompts and answers of many sequences in one step."""
