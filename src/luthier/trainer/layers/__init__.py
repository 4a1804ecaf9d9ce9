"""Layers that replace those of a model: LoRA, quantization, master weights, attention."""
