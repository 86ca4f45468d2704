"""The replicated log: append, fence and claim over shards, and the engines behind one interface."""
