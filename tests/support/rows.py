"""Training rows for tests: the guide's ten Clippy rows, and rows that are wrong."""

import json


def good(n: int = 10) -> bytes:
    """`n` rows of chat that no rule objects to, each different."""
    lines = []
    for number in range(n):
        messages = [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
        ]
        lines.append(json.dumps({"messages": messages}))
    return ("\n".join(lines) + "\n").encode()


def pairs(n: int = 10) -> bytes:
    """`n` preference pairs that no rule objects to, each different."""
    lines = []
    for number in range(n):
        question = {"role": "user", "content": f"What is {number} plus one?"}
        row = {
            "input": {"messages": [{"role": "system", "content": "You are brief."}, question]},
            "preferred_output": [{"role": "assistant", "content": f"It is {number + 1}."}],
            "non_preferred_output": [{"role": "assistant", "content": f"Who knows? Not {number}, I think."}],
        }
        lines.append(json.dumps(row))
    return ("\n".join(lines) + "\n").encode()
