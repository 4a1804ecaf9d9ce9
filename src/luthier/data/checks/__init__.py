"""A whole file: every problem of its rows, and what only shows when rows are compared or counted.

validate.py reads the file and hands each valid row to observers: dataset_checks.py with the other modules, and
token_counts.py.
"""
