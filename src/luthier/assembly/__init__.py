"""What the settings choose, built: with `app.py` and the modules beside it the composition root."""
