"""Stage by stage outputs of the engine, under the names of a golden case's vectors."""
