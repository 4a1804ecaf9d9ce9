"""Who is calling and what they may do, asked before a body is read."""
