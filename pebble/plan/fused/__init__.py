"""Steps whose kernels inductor fuses: the plan says what is saved and what runs again."""
