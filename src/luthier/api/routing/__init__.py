"""How a route is declared: its action, its replies, its description; and what it checks before it reads a body."""
