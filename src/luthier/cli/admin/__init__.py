"""Administration of the data folder: resources, keys, blob store, audit log."""
