"""Messages: accepted, dispatched to carriers, receipted; and those that come in."""
