"""What the page of one job shows: its metrics as columns, its settings and actions, its hardest rows. It only reads."""
