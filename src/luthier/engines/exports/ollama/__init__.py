"""Ollama: a chat template in its language, proven equal to the model's own on chats, and a Modelfile around it."""
