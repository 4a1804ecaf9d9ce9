"""Commands on training files (JSONL), without a service: `luthier check` and `luthier show`."""
