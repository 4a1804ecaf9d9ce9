"""Chats and completions: admission, prompt, engine, answer."""
