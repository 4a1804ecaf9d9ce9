"""vLLM as an engine: a server for each base model, started and ended by us."""
