"""Values of the use cases, shaped for templates. Pure: no database, no request."""
