"""The host's read copy of the log, in SQLite, with its snapshots and the retention behind them."""
