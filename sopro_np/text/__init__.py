"""Written text -> what is said, sentence by sentence."""
