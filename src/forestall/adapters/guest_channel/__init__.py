"""Channels to agents in VMs, over the host's ends of their virtio-serial ports."""
