"""Capture of PyTorch steps: trace once at raw ATen level, lower by our own rules, refuse what isn't faithful."""
