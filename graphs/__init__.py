"""Causal stories, one per file; every edge with its source."""
