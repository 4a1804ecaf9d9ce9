"""Chats and completions: a request becomes the engine's prompt and grammar, its output becomes an answer."""
