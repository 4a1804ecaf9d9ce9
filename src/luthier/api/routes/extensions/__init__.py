"""Routes of no dialect, under /luthier: what only Luthier has."""
