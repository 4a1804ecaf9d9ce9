"""The trainer: a process that fine-tunes a base model as a run directory asks and writes checkpoints into it.

An executor starts it; the service knows only the run directory. torch, transformers and PEFT are imported here; there
is no database and no HTTP.
"""
