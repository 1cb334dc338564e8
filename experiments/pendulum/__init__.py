"""Pendulum: counterfactuals led by causal representations."""
