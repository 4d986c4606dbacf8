"""What real and simulated training shows; each file answers a question of its own."""
