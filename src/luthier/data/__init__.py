"""Training data, from bytes to problems, examples and tokens; without torch and without I/O of its own.

Callers hand in chunks of bytes. The service and `luthier check` check and repair files with it, the trainer reads its
examples with it, and the service builds prompts and grammars with its rendering and its tools.
"""
