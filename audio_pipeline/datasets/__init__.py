"""Labelled recordings: manifests, label tracks, examples, augmentation and synthesis."""
