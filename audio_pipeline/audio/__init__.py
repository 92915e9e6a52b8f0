"""Recordings: samples with a rate, from any file or microphone, and whether they are usable."""
