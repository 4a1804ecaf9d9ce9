"""What every page stands on: who visits, forms, templates, static files, headers."""
