"""What only one process may do at a time: a lease that is kept, and ports that refuse to act once it is lost."""
