"""TwiML, read from hostile bytes into instructions. One module for each vocabulary."""
