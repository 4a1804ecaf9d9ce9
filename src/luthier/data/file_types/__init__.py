"""What a file is, in which encoding, and how it becomes JSON lines."""
