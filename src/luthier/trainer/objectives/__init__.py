"""Training objectives: loss and gradients of supervised fine-tuning and of DPO, and their validation."""
