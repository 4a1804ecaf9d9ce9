"""What a run learns by: supervised fine-tuning or direct preference optimization."""
