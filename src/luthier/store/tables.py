"""Every table of the database: importing this module completes the metadata that all schema modules share."""

from sqlalchemy import MetaData

from luthier.store import delivery_schema, inference_schema, portal_schema, schema, webhook_schema
from luthier.store.process_schema import process_tables

SCHEMAS = (schema, inference_schema, portal_schema, webhook_schema, delivery_schema, process_tables)
"""The modules that define tables."""
metadata: MetaData = schema.metadata

UNCOUNTED = (inference_schema.batches, inference_schema.responses, portal_schema.portal_sessions)
"""Tables whose rows do not keep a resource from being deleted: they go with it."""
