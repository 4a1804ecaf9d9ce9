"""Quotas and the like, shaped for the pages of settings."""
