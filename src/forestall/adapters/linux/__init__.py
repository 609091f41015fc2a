"""What the kernel of the host tells and does beside libvirt: processes, cgroups, traffic control."""
