"""Where pebble meets the training stacks of others."""
