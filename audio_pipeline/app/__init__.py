"""What people use: command line, capture, batch, reports and the server."""
