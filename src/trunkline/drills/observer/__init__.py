"""Four witnesses outside the system: an API client, the carrier, the handsets, a webhook receiver.

Each has an append-only file of JSON lines of its own; the checker knows nothing but these.
"""
