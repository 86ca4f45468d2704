"""Leads an unmodified program to this cluster: a forwarder on loopback, and what makes the program use it.

`forwarder` listens, `cluster` asks the hosts, `variables` says what the program is started with. It is a
client of the API like any other, and knows nothing of how a host works.
"""
