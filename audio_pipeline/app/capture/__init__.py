"""Recording a take at the microphone."""
