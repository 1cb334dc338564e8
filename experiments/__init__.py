"""Experiments: one folder per data set, with the commands and the measured numbers."""
