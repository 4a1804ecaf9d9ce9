"""Processor time as a test may bound it: in units of a fixed piece of work, so that a slow machine is no fault."""

import time


def reference_s() -> float:
    """Processor seconds of a fixed piece of interpreter's work: 0.04 on a core of 2023 that does nothing else."""
    began = time.process_time()
    total = 0
    for number in range(1_000_000):
        total += number & 7
    return max(time.process_time() - began, 1e-3)
