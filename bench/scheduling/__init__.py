"""The queue at a cluster's size: the real control plane, its nodes and trainers simulated."""
