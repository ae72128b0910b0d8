"""Metrics, and the loop that gathers them over a data set."""
