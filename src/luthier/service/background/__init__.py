"""What moves without a caller: the supervisor, expiry, orphaned blobs."""
