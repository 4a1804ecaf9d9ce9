"""luthier import-jobs: an account elsewhere brought to a running service."""
