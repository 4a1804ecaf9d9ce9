"""One module for each group of pages: its table PAGES says which paths it answers, and what a caller needs for them."""
