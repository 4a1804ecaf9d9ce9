"""The object stores over which the contract of blobs is held, beside folder and memory."""

from object_servers import azure_server, s3_server

__all__ = ["azure_server", "s3_server"]
