"""Symptom answers in, a recommendation out. Triage knows nothing of audio."""
