"""llama.cpp as an engine: a process per base model with llama.cpp's server, and a second server for prompts' scores."""
