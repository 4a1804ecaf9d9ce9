"""What kind of file an upload is, in which encoding, and how its text becomes UTF-8 and its tables rows."""
