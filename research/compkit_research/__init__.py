"""What compkit's report tried, and no result recommends."""
