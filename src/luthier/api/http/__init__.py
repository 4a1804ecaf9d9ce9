"""Connections, sockets, TLS and threads: HTTP before anything is read as a request."""
