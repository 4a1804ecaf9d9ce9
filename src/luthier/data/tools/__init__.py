"""Tools and schemas: their prompt text, their grammar, what a schema may hold, and the parser of streamed calls."""
