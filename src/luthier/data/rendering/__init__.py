"""Renders examples and chats by a model's chat template: to text, token ids and loss weights."""
