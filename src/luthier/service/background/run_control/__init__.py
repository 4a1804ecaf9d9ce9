"""Running jobs: followed, started where nodes have room, and cleared up after."""
