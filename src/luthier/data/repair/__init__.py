"""`luthier check --fix`: a faulty data file rewritten without the faults that can be repaired safely."""
