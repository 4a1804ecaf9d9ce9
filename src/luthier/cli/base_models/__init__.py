"""Base models on this machine: fetched, prepared for training and serving, and which engine serves each."""
