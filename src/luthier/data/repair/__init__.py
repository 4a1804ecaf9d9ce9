"""A faulty file and its rows, repaired if that is safe."""
