"""Training of one mechanism at a time; the only place that imports lightning."""
