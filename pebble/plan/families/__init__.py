"""Plans of one model for every batch size and length within a budget."""
