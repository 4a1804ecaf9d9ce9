"""Engines answer chats: processes that speak OpenAI chat completions on loopback, and the files that they read."""
