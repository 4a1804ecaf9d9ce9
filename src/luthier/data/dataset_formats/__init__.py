"""Rows in the formats of other vendors and trainers: recognised, and converted to chats or preference pairs."""
