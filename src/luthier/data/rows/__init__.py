"""One training line to an Example, a Preference, or its Problems: messages, content parts, images and tool calls.

supervised.py and preference.py read any row; fast_path.py reads the plainly valid supervised ones sooner.
"""
