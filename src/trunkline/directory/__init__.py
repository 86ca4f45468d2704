"""What exists and who owns it: accounts and telephone numbers."""
