"""Experiment trackers: where the metrics of jobs are sent, outside of the trainer."""
