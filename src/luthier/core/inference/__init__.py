"""Nouns of what models are asked and answer."""
