"""A Ray cluster on this machine, its nodes in network namespaces that can be cut off: for tests and benchmarks."""
