"""What can be done to a host, one fault a file: signals, disks, networks. No judgement here."""
