"""Problems that validation finds in a file: one finding, its place in a row, and many counted and grouped."""
