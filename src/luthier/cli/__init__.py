"""The command `luthier`: each command parses, makes one call and prints. Most are clients of the public API through the
openai SDK; `serve`, `demo`, `engines`, `models pull` and `models import`, and those in `admin`, `data` and `training`
work on this machine's folders. A command's docstring is its help.
"""
