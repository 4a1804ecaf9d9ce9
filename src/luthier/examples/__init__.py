"""The guide's workflow as a client writes it, with its ten rows: what `luthier demo` runs."""
