"""Integer programs: their rows, the engines that solve them, and what is built of both."""
