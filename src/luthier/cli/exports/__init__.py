"""luthier export: a model's files are made by the service, downloaded, and uploaded to a hub if asked."""
