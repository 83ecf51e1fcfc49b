"""Process one collection on many machines: shards, part files, Ray."""
