"""Content-addressed store: Digest, canonical encoding, LMDB store, tensors, trees and weight files."""
