"""Losses, schedules, optimizers, strategy, and the loop that uses them."""
