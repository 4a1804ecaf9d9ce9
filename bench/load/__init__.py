"""`make bench-load`: a real service under more than it can take, and what everybody else sees of that meanwhile."""
