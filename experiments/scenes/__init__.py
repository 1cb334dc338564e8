"""What the experiments with Pendulum and Flow share: models, ways of asking, measures."""
