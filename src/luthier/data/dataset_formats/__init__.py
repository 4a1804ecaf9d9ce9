"""Rows in the formats of other vendors and trainers, read as chats."""
