"""MorphoDigits."""
