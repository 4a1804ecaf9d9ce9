"""The wire: the only HTTP. A route parses, calls one use case, and its dialect (a value) shapes the answer."""
