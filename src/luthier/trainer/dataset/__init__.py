"""From data files to packed batches of token ids: rendering, cache, batches; the tokenizer and the probe prompts."""
