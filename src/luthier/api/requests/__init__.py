"""JSON bodies to values, in every shape that clients send."""
