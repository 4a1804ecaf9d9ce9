"""luthier jobs compare: what of jobs is read, what differs, and how it is shown."""
