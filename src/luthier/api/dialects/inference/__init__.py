"""Wire shapes of what models answer: the same in every dialect."""
