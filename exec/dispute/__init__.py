"""Disputes: two runs of one job that differ are followed down to one operation, and whoever lied is convicted by their
own signatures (see README.md)."""
