"""What `auto` is made of: parts that share one best schedule and one deadline."""
