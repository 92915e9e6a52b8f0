"""One row of numbers per segment."""
