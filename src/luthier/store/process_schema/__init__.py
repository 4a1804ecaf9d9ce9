"""The tables by which several processes of one installation agree, beside those of `schema`."""
