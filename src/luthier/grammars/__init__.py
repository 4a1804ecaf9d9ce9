"""Grammars of answers: tried in a process with limits before an engine gets them, and matched against answers."""
