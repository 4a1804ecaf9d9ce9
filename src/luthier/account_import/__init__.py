"""`luthier import-jobs`: files and jobs of an account at a vendor or another Luthier, imported into this service."""
