"""A host under libvirt: QEMU/KVM in full, other drivers as far as they go, each refusal with its reason."""
