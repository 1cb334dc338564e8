"""Flow: counterfactuals led by causal representations."""
