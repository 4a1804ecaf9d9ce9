"""Several ranks of one run: their processes, their collectives, and how they notice that one is lost."""
