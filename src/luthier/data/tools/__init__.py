"""Tool definitions and calls: prompt format, grammar, schemas, stream parser."""
