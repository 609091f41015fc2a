"""Which protocols VMs speak, heard at their taps and recognised by nfstream."""
