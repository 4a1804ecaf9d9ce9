"""Training in a process of this machine, without a service: `luthier train` and `luthier reproduce`."""
