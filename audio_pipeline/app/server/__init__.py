"""The page to record on and the HTTP API: a thin shell over the same functions as the commands."""
