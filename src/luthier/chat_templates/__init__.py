"""Chat templates, compiled and rendered in a sandbox within limits of steps, characters and time."""
