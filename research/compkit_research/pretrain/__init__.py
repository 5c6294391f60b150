"""Encoders and networks trained on images without labels."""
