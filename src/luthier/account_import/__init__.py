"""Files and jobs of an account elsewhere, imported."""
