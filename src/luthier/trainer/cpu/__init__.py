"""A decoder with LoRA on the CPU: fused, with compiled kernels."""
