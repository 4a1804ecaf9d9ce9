"""The pages of models and deployments."""
