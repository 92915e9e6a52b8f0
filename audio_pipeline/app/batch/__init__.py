"""Many recordings: find them, look at each once, keep what was found, write it in any format."""
