"""Engines answer chats: processes on loopback that compute tokens, how they are run and called, and their files."""
