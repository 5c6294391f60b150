"""What a competition's data are like, in numbers and pictures."""
