"""What runs as a service: the daemon of a host, its watchdog, and how to ask them."""
