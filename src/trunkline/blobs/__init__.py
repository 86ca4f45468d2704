"""Media files: bounded, named by what is in them, and on more than one host's disk."""
