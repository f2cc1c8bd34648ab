"""A model file read under another recipe, watched while it computes, and written anew. Not needed to speak."""
