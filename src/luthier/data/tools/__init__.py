"""Tools: their definitions in rows, their prompt text, the grammar of an answer, and the parser of streamed calls."""
