"""From samples to segments: onset envelope, noise floor and the joining rule."""
