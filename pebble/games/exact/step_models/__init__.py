"""Games as models of CP-SAT, with variables for each step."""
