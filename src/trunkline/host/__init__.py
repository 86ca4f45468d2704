"""One host: its configuration, its data folder, its processes, and the one place that wires them."""
