"""What people who fine-tune need to know: memory, batches, recipes, cards."""
