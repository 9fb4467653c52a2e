"""Computing a run again, all of it or a sample, and what comes of it."""
