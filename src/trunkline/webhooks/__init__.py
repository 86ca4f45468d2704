"""Signed requests to customers' applications: fetched documents, and callbacks told in order."""
