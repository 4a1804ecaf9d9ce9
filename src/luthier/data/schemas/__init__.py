"""JSON schemas of tools and answers: what can be enforced, what it costs, and the form that grammars take."""
