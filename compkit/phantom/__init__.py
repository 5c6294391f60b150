"""A seeded generator of CT-like slices; `slices.draw_slice` is the way in."""
