"""Switches of Open vSwitch, by OpenFlow 1.3, its database and the kernel's queues."""
