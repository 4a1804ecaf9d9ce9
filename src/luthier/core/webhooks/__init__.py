"""Webhooks as values: endpoints, events and their deliveries, signatures, when to try again."""
