"""Public CT volumes with masks of organs."""
