"""The pages of settings: quotas, keys, machine, audit trail."""
