"""Work that no request starts (the supervisor, expiry, orphaned blobs, purged resources), and the operator's status."""
