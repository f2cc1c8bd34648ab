"""Many lines of text -> a folder of utterances: on one machine, in shards, or on a cluster; all give the same bytes."""
