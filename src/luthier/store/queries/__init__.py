"""One module of queries per noun; each takes the transaction first and never commits."""
