"""A base model's files as they come from elsewhere, validated before any library opens them.

trainer/model/prepare.py admits a pulled base model through it; trainer and engines check with it the folders that they
open. Errors are for whoever pulls a model, or runs a job on it.
"""
