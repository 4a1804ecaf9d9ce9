"""Example and chat template to token ids and loss weights."""
