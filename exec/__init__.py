"""Graphs, jobs, capture, devices, runs and their verification."""
