"""`make bench-portal`: the portal over 1,000 jobs and 100,000 metric rows: server, browser, memory, cost to a run."""
