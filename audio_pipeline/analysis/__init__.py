"""From a recording to its events and its finding, and on to what a person is told."""
