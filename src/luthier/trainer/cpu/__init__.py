"""The fast path on a CPU: a decoder with LoRA written out by hand on compiled kernels, and its memory."""
