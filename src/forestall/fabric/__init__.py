"""The loop that sets bandwidth, queues and paths of the network before the traffic comes."""
