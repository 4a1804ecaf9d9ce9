"""Parts of a model that replace those of transformers and PEFT: LoRA, quantized and master weights, attention."""
