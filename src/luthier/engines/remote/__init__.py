"""Models behind an OpenAI-compatible completions route: of a server that others run, or of vLLM started by us."""
