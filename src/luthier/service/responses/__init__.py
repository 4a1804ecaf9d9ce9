"""Responses that are kept: conversations that continue, and answers in the background."""
