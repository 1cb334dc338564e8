"""Morpho-MNIST: mechanisms of images compared on the official rows."""
