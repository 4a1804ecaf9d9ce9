"""What a run is set to, what it takes in memory and what it costs."""
