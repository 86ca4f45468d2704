"""Pure rules and words of messaging: no I/O, no clock, no randomness."""
