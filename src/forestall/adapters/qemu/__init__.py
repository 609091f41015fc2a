"""What is particular to QEMU, whoever manages it."""
