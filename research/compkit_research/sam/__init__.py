"""Segment Anything as a submission to compare with."""
