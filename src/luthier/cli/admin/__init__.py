"""Administration of the data folder without its service: resources, keys, blob store, audit log,
backups. Commands that change something append to the audit log, all but `storage adopt` and `restore`.
"""
