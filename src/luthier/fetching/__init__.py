"""Getting what a URL of a caller's names, without being a way into the network behind this machine."""
