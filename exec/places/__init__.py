"""Where runs are found, and how they go from machine to machine."""
