"""Costs: ratios of times on one machine, and counts of network evaluations."""
