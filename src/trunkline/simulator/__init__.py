"""A phone network to try things on: carriers and handsets, in a process that outlives any host.

It knows the wire and nothing else of us, and it writes everything down before it answers, so that
its file can be the judge of what a host did.
"""
