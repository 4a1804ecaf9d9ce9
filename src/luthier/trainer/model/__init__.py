"""The model that is trained: base and adapter, device, memory plan, head and loss, optimizer, probes.

Also `prepare`, which makes a base model's folder.
"""
