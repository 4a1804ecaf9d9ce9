"""Bytes to numbered lines to JSON objects, with the column of every fault; and rows that are laid out otherwise."""
