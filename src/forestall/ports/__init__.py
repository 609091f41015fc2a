"""What the loops need from the outside world, as Protocols; adapters implement them."""
