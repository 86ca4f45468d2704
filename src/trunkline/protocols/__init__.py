"""Wire formats without I/O: bytes and time in, events and bytes out."""
