"""The arithmetic of samebits: every operation returns the correctly rounded result of a definition without an order."""
