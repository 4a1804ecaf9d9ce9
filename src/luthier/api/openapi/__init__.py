"""The OpenAPI document, derived from the routes' declarations and the answer types."""
