"""Labels in, a model folder and honest figures out."""
