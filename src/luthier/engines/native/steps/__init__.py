"""What is computed next and what comes of it: sequences, pages, steps, drawn tokens and their text."""
