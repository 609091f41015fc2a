"""The staging loop through recorded first touches of guest memory."""
