"""One training line: supervised or preference, its messages, content parts, images and tool calls."""
