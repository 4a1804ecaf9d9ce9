"""Endpoints that call a model, and how its answers are sent."""
