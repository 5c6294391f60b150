"""Losses: pure functions of tensors, and the sum that a configuration names."""
