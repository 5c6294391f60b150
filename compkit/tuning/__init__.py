"""The search for settings: its space."""
