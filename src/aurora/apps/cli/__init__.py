"""The command line: `aurora`."""
