"""The stores of `make test-blobs`, each in turn as `object_server`."""

from object_servers import azure_server, object_server, s3_server

__all__ = ["azure_server", "object_server", "s3_server"]
