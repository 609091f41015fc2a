"""What this host offers to Forestall: facts that are read, and checks that judge them."""
