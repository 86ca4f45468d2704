"""Drills: real faults on real processes, judged from outside by what a customer and a carrier saw.

Nothing here knows how a host works. Hosts are started as processes, hurt as processes, and asked
through the interfaces that anybody has.
"""
