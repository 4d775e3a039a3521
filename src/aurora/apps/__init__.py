"""Floor 4: what is started: the HTTP server, the worker, and the command line."""
