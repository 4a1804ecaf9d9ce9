"""The decoder in C++, and how Python builds it, gives it weights and calls it."""
