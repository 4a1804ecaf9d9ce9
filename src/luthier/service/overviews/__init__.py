"""What lists and pages for people need at once: reads over several nouns, each in one transaction."""
