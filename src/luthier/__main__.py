"""python -m luthier: the same as the command `luthier`."""

from luthier.cli.main import app

app()
