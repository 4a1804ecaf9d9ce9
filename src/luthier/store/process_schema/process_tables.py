"""The tables by which several processes of one installation agree. They join the metadata of `schema`."""

from sqlalchemy import BigInteger, Column, String, Table, Text

from luthier.store import schema
from luthier.store.schema import UtcTime

metadata = schema.metadata

# A lease and, in `token`, its fencing token: each take-over adds 1. `expires_at` is by the database's own clock. The
# row stays when the lease ends, for the token must never fall.
leases = Table(
    "leases",
    metadata,
    Column("name", String(96), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
)

# What a process may take of a rate limit in any 60 s: the sum over a limit's rows is at most the limit. `expires_at` is
# by the database's own clock.
rate_grants = Table(
    "rate_grants",
    metadata,
    Column("name", Text, primary_key=True),
    Column("process", String(96), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
)

# Processes of `luthier engine-host`: where API processes reach each, and its lease's name. A host lives while that
# lease has not run out.
engine_hosts = Table(
    "engine_hosts",
    metadata,
    Column("url", String(512), primary_key=True),
    Column("process", String(96), nullable=False, index=True),
    Column("weight", BigInteger, nullable=False),
)
