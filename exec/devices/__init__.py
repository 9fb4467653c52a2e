"""Devices: the protocol, the numpy reference, and opening one by name."""
