"""Grammars of answers: tested in a resource-limited process before an engine gets them, and matched against answers."""
