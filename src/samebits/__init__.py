"""samebits: the same job gives the same bits on any machine, and anyone can check it by hash."""
