"""Lower bounds that hold in any order, and what they are made of."""
