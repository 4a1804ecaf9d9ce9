"""Every table of the database: importing this module completes the metadata that all schema modules share."""

from sqlalchemy import MetaData

from luthier.store import inference_schema, portal_schema

metadata: MetaData = inference_schema.metadata

UNCOUNTED = (inference_schema.batches, inference_schema.responses, portal_schema.portal_sessions)
"""Tables whose rows do not keep a resource from being deleted: they go with it."""
