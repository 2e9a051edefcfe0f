"""How figures look, whoever draws them."""
