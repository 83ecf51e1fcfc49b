"""One collection on many machines: shards, and which parts of them are there."""
