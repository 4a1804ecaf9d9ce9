"""Queries by which several processes of one installation agree: leases, the database's clock, shares of rate limits."""
