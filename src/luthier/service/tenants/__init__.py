"""Resources, their keys, quotas, rate limits and audit log."""
