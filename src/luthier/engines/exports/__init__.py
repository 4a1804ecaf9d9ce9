"""Exports: a tuned model's files for peft, transformers, llama.cpp and Ollama, each proven in its own tool first."""
